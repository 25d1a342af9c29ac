package schema_test

import (
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/schema"
)

func TestDocsPageNeedsNothingFromElsewhere(t *testing.T) {
	page, _ := schema.DocsPage("Eider API", "/openapi.json")
	if found := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}|@import|url\(|<link|<img|<iframe|\ssrc=`).Find(page); found != nil {
		t.Errorf("the page asks for %q", found)
	}
	for _, name := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("} {
		if strings.Contains(string(page), name) {
			t.Errorf("the page uses %s, by which a text of the document could become a part of the page", name)
		}
	}
}

func TestDocsPolicyAllowsExactlyWhatIsInThePage(t *testing.T) {
	page, policy := schema.DocsPage("Eider API", "/openapi.json")
	for tag, directive := range map[string]string{"style": "style-src", "script": "script-src"} {
		parts := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllSubmatch(page, -1)
		if len(parts) != 1 || strings.Count(string(page), "<"+tag) != 1 {
			t.Fatalf("the page has %d %ss", len(parts), tag)
		}
		sum := sha256.Sum256(parts[0][1])
		want := directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'") {
		t.Errorf("the policy is %q", policy)
	}
	if regexp.MustCompile(`(?i)\son[a-z]+=|\sstyle=`).Match(page) {
		t.Error("the page has an attribute that the policy refuses")
	}
}

func TestDocsPageQuotesItsTexts(t *testing.T) {
	page, _ := schema.DocsPage(`<b>"x"</b>`, `/a"><script>b`)
	if strings.Contains(string(page), "<b>") || strings.Contains(string(page), `/a">`) || strings.Count(string(page), "<script>") != 1 {
		t.Errorf("a text became a part of the page:\n%s", page)
	}
}

func TestDocsPageLinksTheDocumentWithoutScript(t *testing.T) {
	page, _ := schema.DocsPage("Eider API", "/openapi.json")
	if !regexp.MustCompile(`<noscript>.*<a href="/openapi.json">.*</noscript>`).Match(page) {
		t.Error("there is no link for those who run no script")
	}
}
