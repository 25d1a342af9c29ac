package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Commands as they are typed: testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
