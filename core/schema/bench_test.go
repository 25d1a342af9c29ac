package schema_test

import (
	"strings"
	"testing"
)

func BenchmarkDecode(b *testing.B) {
	in := input[request](b)
	for _, c := range []struct{ name, query, body string }{
		{"create", "", `{"name":"sales","settings":{"team":"a"}}`},
		{"list", "limit=50&tag=a&tag=b", `{"name":"x"}`},
		{"hundred_columns", "", `{"name":"x","columns":[` + strings.Repeat(`{"name":"c","type":"INTEGER"},`, 99) + `{"name":"c","type":"INTEGER"}]}`},
	} {
		src := source(c.query, c.body)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := in.Decode(src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
