package plugin

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMembersAreFoundWhereTheyAre(t *testing.T) {
	const text = JSON(` { "a" : { "b" : [ 1 , "x,]}" , { } ] , "c":-7 } , "n":null,"t":true, "":2.0,
		"esc":"\u0041\n\ud83e\udd86\ud83e\"","big":9223372036854775807,"e":1e3,"a2":[],"dup":1,"dup":2,"d\u0075p\"":3}`)
	for name, got := range map[string][2]any{
		"a member of a member":    {string(text.Get("a", "c")), "-7"},
		"a string with escapes":   {text.Get("esc").String(), "A\n🦆\uFFFD\""},
		"the empty name":          {string(text.Get("")), "2.0"},
		"a name that is not":      {string(text.Get("a", "c", "d")), ""},
		"the last of two":         {string(text.Get("dup")), "2"},
		"a name with escapes":     {string(text.Get("dup\"")), "3"},
		"strings of an array":     {strings.Join(text.Get("a", "b").Strings(), "|"), "x,]}"},
		"null":                    {text.Get("n").Exists(), false},
		"true":                    {text.Get("t").Bool(), true},
		"a string of a number":    {text.Get("e").String(), ""},
		"a string of what is not": {JSON("").String(), ""},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %v, want %v", name, got[0], got[1])
		}
	}
	for name, want := range map[string]int64{"big": 1<<63 - 1, "": 2, "e": 1000} {
		if got, ok := text.Get(name).Int(); !ok || got != want {
			t.Errorf("%q is %d %v, want %d", name, got, ok, want)
		}
	}
	for _, none := range []JSON{"", "null", `"1"`, "1.5", "1e300", "true", "[1]", "9223372036854775808"} {
		if n, ok := none.Int(); ok {
			t.Errorf("%s is the integer %d", none, n)
		}
	}
}

func TestDepthCostsNoStack(t *testing.T) {
	deep := JSON(`{"a":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + `,"b":3}`)
	if n, _ := deep.Get("b").Int(); n != 3 {
		t.Errorf("behind a deep array stands %d", n)
	}
}

// FuzzJSON holds the reader against encoding/json: what is valid is read alike,
// and what is not ends in no panic.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":"b"}`, `{"a":{"a":[1,2]}}`, `{"a":"\ud83e\udd86\u0000"}`, `{"a":tru`, `{`, `"a"`, `{"a"  :  1e5 ,"b":[]}`, "{\"a\":\"\xff\"}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := JSON(text).Get("a")
		JSON(text).Each(func(_ string, v JSON) bool { _ = v.String() + v.Get("b").String(); v.Int(); v.Strings(); return true })
		var want map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &want) != nil || !json.Valid([]byte(text)) || want == nil || strings.ContainsRune(text, 0xFFFD) {
			return
		}
		if string(want["a"]) != string(got) {
			t.Fatalf("a of %q is %q, want %q", text, got, want["a"])
		}
		var s string
		if got != "" && got[0] == '"' && json.Unmarshal(want["a"], &s) == nil && got.String() != s && !strings.ContainsRune(s, 0xFFFD) {
			t.Fatalf("%s reads as %q, want %q", got, got.String(), s)
		}
	})
}

func FuzzQuote(f *testing.F) {
	f.Add("a\"\\\x00\u2028é\xff🦆")
	f.Fuzz(func(t *testing.T, text string) {
		var back string
		if err := json.Unmarshal([]byte(Quote(text)), &back); err != nil || back != strings.ToValidUTF8(text, "\uFFFD") && strings.ToValidUTF8(text, "") == text {
			t.Fatalf("%q became %s and came back as %q: %v", text, Quote(text), back, err)
		}
	})
}
