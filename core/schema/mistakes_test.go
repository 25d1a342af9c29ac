package schema_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/schema"
)

type named struct {
	Name string `json:"name"`
}

type inner struct {
	Header bool `json:"header" default:"true"`
}

func TestMistakesInDeclarationsAreErrors(t *testing.T) {
	type (
		twice struct {
			named
			Again string `json:"Name"`
		}
		twiceInQuery struct {
			A string `query:"a" json:"-"`
			B string `query:"a" json:"-"`
		}
		oddParam struct {
			A float64 `query:"a" json:"-"`
		}
		pointerParam struct {
			A *string `query:"a" json:"-"`
		}
		timeInHeader struct {
			A time.Time `header:"If-Modified-Since" json:"-"`
		}
		wrongDefault struct {
			A int `query:"a" json:"-" default:"ten"`
		}
		refusedDefault struct {
			A int `query:"a" json:"-" default:"10" maximum:"5"`
		}
		listDefault struct {
			A []string `query:"a" json:"-" default:"x,y"`
		}
		pointerDefault struct {
			A *string `json:"a" default:"x"`
		}
		innerDefault struct {
			A []inner `json:"a"`
		}
		wrongTag struct {
			A int `json:"a" minimum:"low"`
		}
		wrongPattern struct {
			A string `json:"a" pattern:"("`
		}
		unexported struct {
			a string
		}
		embeddedPointer struct{ *named }
		embeddedTagged  struct {
			named `json:"named"`
		}
		noJSON struct {
			A chan int `json:"a"`
		}
	)
	_ = unexported{}.a
	for name, declare := range map[string]func(*schema.Registry) error{
		"no struct":          mistake[string],
		"field twice":        mistake[twice],
		"parameter twice":    mistake[twiceInQuery],
		"float parameter":    mistake[oddParam],
		"pointer parameter":  mistake[pointerParam],
		"time in a header":   mistake[timeInHeader],
		"default of a type":  mistake[wrongDefault],
		"default refused":    mistake[refusedDefault],
		"default of a list":  mistake[listDefault],
		"default of pointer": mistake[pointerDefault],
		"default not used":   mistake[innerDefault],
		"tag":                mistake[wrongTag],
		"pattern":            mistake[wrongPattern],
		"unexported":         mistake[unexported],
		"embedded pointer":   mistake[embeddedPointer],
		"embedded and named": mistake[embeddedTagged],
		"type without JSON":  mistake[noJSON],
	} {
		if err := declare(schema.New()); err == nil || !strings.HasPrefix(err.Error(), "the input ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func mistake[T any](r *schema.Registry) error {
	_, err := schema.InputOf[T](r)
	return err
}

func TestWhetherThereIsABody(t *testing.T) {
	type (
		none struct {
			ID      string `path:"id" json:"-"`
			Private string `json:"-"`
		}
		optional struct {
			Settings json.RawMessage `json:"settings"`
		}
		required struct {
			named
			ID string `json:"id" required:"true"`
		}
	)
	for name, c := range map[string]struct {
		d             *schema.Description
		has, required bool
	}{
		"none":     {input[none](t).Description(), false, false},
		"optional": {input[optional](t).Description(), true, false},
		"required": {input[required](t).Description(), true, true},
	} {
		if c.d.HasBody() != c.has || c.d.BodyRequired() != c.required {
			t.Errorf("%s: got %t, %t", name, c.d.HasBody(), c.d.BodyRequired())
		}
	}
}
