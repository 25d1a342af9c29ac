package wasm

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"unicode/utf8"
)

// The words of JSON Schema that manifests may use of their config.
var schemaWords = []string{
	"type", "properties", "required", "additionalProperties", "items", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern",
	"default", "description",
}

// checkSchema refuses a schema with words that hold does not know: it would let
// through what its author meant to refuse.
func checkSchema(schema map[string]any) error {
	for word, value := range schema {
		if !slices.Contains(schemaWords, word) {
			return fmt.Errorf("the word %q is not known", word)
		}
		var err error
		switch word {
		case "properties":
			properties, ok := value.(map[string]any)
			if !ok {
				return fmt.Errorf("properties must be names and schemas")
			}
			for name, below := range properties {
				if err := checkBelow(below); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		case "items":
			err = checkBelow(value)
		case "pattern":
			_, err = regexp.Compile(fmt.Sprint(value))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return nil
}

func checkBelow(schema any) error {
	below, ok := schema.(map[string]any)
	if !ok {
		return fmt.Errorf("must be a schema")
	}
	return checkSchema(below)
}

// hold holds a value, as JSON is decoded, against a schema, and fills in defaults
// of an object's members.
func hold(value any, schema map[string]any, at string) error {
	if want, ok := schema["type"].(string); ok && !isType(value, want) {
		return fmt.Errorf("%s must be of type %s", at, want)
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.ContainsFunc(enum, func(e any) bool { return equal(e, value) }) {
		return fmt.Errorf("%s must be one of %v", at, enum)
	}
	switch v := value.(type) {
	case map[string]any:
		return holdObject(v, schema, at)
	case []any:
		if items, ok := schema["items"].(map[string]any); ok {
			for i := range v {
				if err := hold(v[i], items, fmt.Sprintf("%s[%d]", at, i)); err != nil {
					return err
				}
			}
		}
	case float64:
		if least, ok := number(schema["minimum"]); ok && v < least {
			return fmt.Errorf("%s must be at least %v", at, least)
		}
		if most, ok := number(schema["maximum"]); ok && v > most {
			return fmt.Errorf("%s must be at most %v", at, most)
		}
	case string:
		return holdText(v, schema, at)
	}
	return nil
}

func holdText(v string, schema map[string]any, at string) error {
	length := float64(utf8.RuneCountInString(v))
	if least, ok := number(schema["minLength"]); ok && length < least {
		return fmt.Errorf("%s must have at least %v characters", at, least)
	}
	if most, ok := number(schema["maxLength"]); ok && length > most {
		return fmt.Errorf("%s must have at most %v characters", at, most)
	}
	if pattern, ok := schema["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v) {
		return fmt.Errorf("%s must match %s", at, pattern)
	}
	return nil
}

func holdObject(v, schema map[string]any, at string) error {
	properties, _ := schema["properties"].(map[string]any)
	for name, below := range properties {
		below := below.(map[string]any)
		if _, there := v[name]; !there {
			if fallback, ok := below["default"]; ok {
				v[name] = plain(fallback)
			}
		}
		if member, there := v[name]; there {
			if err := hold(member, below, at+"."+name); err != nil {
				return err
			}
		}
	}
	if required, ok := schema["required"].([]any); ok {
		for _, name := range required {
			if _, there := v[fmt.Sprint(name)]; !there {
				return fmt.Errorf("%s.%v must be there", at, name)
			}
		}
	}
	if more, ok := schema["additionalProperties"].(bool); ok && !more {
		for name := range v {
			if _, known := properties[name]; !known {
				return fmt.Errorf("%s.%s is not known", at, name)
			}
		}
	}
	return nil
}

func isType(value any, want string) bool {
	switch v := value.(type) {
	case nil:
		return want == "null"
	case bool:
		return want == "boolean"
	case string:
		return want == "string"
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	case float64:
		return want == "number" || want == "integer" && v == math.Trunc(v)
	}
	return false
}

// plain returns what JSON makes of a value that YAML read.
func plain(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if json.Unmarshal(text, &out) != nil {
		return v
	}
	return out
}

func equal(a, b any) bool { return reflect.DeepEqual(plain(a), plain(b)) }

func number(v any) (float64, bool) {
	n, ok := plain(v).(float64)
	return n, ok
}
