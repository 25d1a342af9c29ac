package main

import (
	"testing"

	plugin "github.com/eiderdb/eider/sdk/go"
)

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		glob, name string
		want       bool
	}{
		{"query", "query", true}, {"query", "query2", false}, {"query", "quer", false}, {"", "", true}, {"*", "", true},
		{"*", "x", true}, {"upload_*", "upload_file", true}, {"*_file", "upload_file", true}, {"u*d_*e", "upload_file", true},
		{"u*x*", "upload_file", false}, {"**", "a", true}, {"a*a", "a", false},
	} {
		if match(c.glob, c.name) != c.want {
			t.Errorf("%s and %s", c.glob, c.name)
		}
	}
}

func TestRulesThatCannotWorkAreRefused(t *testing.T) {
	for _, c := range []string{`{}`, `{"rules":[{}]}`, `{"rules":[{"rate":0}]}`, `{"rules":[{"rate":1,"per":"week"}]}`, `{"rules":[{"rate":2000000}]}`} {
		if _, err := configure(plugin.JSON(c)); err == nil {
			t.Errorf("%s is taken", c)
		}
	}
}
