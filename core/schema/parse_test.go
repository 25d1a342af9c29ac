package schema

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
)

func TestMalformedJSONIsRefused(t *testing.T) {
	for _, body := range []string{
		``, `{`, `}`, `{]`, `[}`, `[1,]`, `[1 2]`, `[,1]`, `{"a"}`, `{"a" 1}`, `{"a":}`, `{"a":1,}`, `{,"a":1}`, `{"a":1 "b":2}`,
		`{1:2}`, `{null:1}`, `{a:1}`, `{'a':1}`, `01`, `+1`, `.5`, `1.`, `1e`, `0x1`, `NaN`, `Infinity`, `tru`, `TRUE`,
		`"a`, "\"a\nb\"", `"\x"`, `"\u12"`, `{} {}`, `{}x`, `{}]`, `1 2`, "\ufeff{}", "{}\x00", "\"\xff\"", "{\"\xff\":1}",
		`1e400`, `{"a":-1e999}`, `/**/{}`,
		`"\ud800"`, `"\udc00"`, `"\ud83d\ud83d\ude00"`, `"\ude00\ud83d"`, `"x\\\ud800"`, `"\ud800x\udc00"`, `{"\uD800":1}`, `"\ud83d\u0041"`,
	} {
		if _, err := parse([]byte(body)); eider.CodeOf(err) != eider.MalformedJSON {
			t.Errorf("%q: got %v", body, err)
		}
	}
}

func TestEscapesOfWholeCharactersAreTaken(t *testing.T) {
	for body, want := range map[string]string{
		`"\ud83d\ude00"`: "\U0001F600", `"\\ud800"`: `\ud800`, `"a\u00e4\ufffd"`: "aä\ufffd", `"\uD83D\uDE00\uD83D\uDE00"`: "\U0001F600\U0001F600",
	} {
		if got, err := parse([]byte(body)); err != nil || got != want {
			t.Errorf("%s: got %q, %v", body, got, err)
		}
	}
}

func TestKeysAreGivenOnce(t *testing.T) {
	for _, body := range []string{
		`{"a":1,"a":1}`, `{"x":[{"a":1,"b":2,"a":3}]}`, `{"a":1,"\u0061":2}`, `{"a":null,"a":null}`,
	} {
		if _, err := parse([]byte(body)); eider.CodeOf(err) != eider.ValidationFailed {
			t.Errorf("%s: got %v", body, err)
		}
	}
	if _, err := parse([]byte(`{"a":{"a":[{"a":1},{"a":1}]},"A":1}`)); err != nil {
		t.Errorf("equal keys of different objects: %v", err)
	}
}

func TestDepthIsBounded(t *testing.T) {
	nested := func(open, close string, n int) []byte {
		return []byte(strings.Repeat(open, n) + "1" + strings.Repeat(close, n))
	}
	for _, c := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
		if _, err := parse(nested(c[0], c[1], maxDepth)); err != nil {
			t.Errorf("%d times %s: %v", maxDepth, c[0], err)
		}
		for _, n := range []int{maxDepth + 1, 100_000} {
			if _, err := parse(nested(c[0], c[1], n)); eider.CodeOf(err) != eider.MalformedJSON {
				t.Errorf("%d times %s: got %v", n, c[0], err)
			}
		}
	}
}

// FuzzParse: what parse takes is JSON, and what it refuses as no JSON is none,
// but for the bounds that it sets itself.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5,"x",null,true]}`, `[[[]]]`, `"\ud800"`, `{"a":1,"a":2}`, `1e400`, ` {} `, `[1,]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := parse(body)
		valid := json.Valid(body)
		if err == nil && !valid {
			t.Fatalf("took %q", body)
		}
		if err != nil && valid && strings.Contains(err.Error(), "not valid JSON") {
			t.Fatalf("refused %q: %v", body, err)
		}
	})
}
