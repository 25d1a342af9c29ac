package schema

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html"
)

//go:embed docs.css
var docsStyle []byte

//go:embed docs.js
var docsScript []byte

// DocsPage returns a page that renders the document found at path on the same
// server, and its Content-Security-Policy. It needs nothing from elsewhere.
func DocsPage(title, path string) (page []byte, policy string) {
	var b bytes.Buffer
	b.WriteString("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>")
	b.WriteString(html.EscapeString(title))
	b.WriteString("</title>\n<style>")
	b.Write(docsStyle)
	b.WriteString("</style>\n<main id=\"main\" data-document=\"" + html.EscapeString(path) + "\"><h1>" + html.EscapeString(title) + "</h1>")
	b.WriteString("<noscript>This page is drawn by a script. The document itself is at <a href=\"" + html.EscapeString(path) + "\">" + html.EscapeString(path) + "</a>.</noscript></main>\n<script>")
	b.Write(docsScript)
	b.WriteString("</script>\n</html>\n")
	policy = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" +
		"; style-src '" + hashSource(docsStyle) + "'; script-src '" + hashSource(docsScript) + "'"
	return b.Bytes(), policy
}

func hashSource(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
