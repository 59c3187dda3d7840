package markup_test

import (
	"testing"

	"github.com/sluice-cd/sluice/internal/markup"
)

// R54: text ends neither the text nor the attribute that it stands in, and orders nothing.
func TestTextStaysText(t *testing.T) {
	const hostile = "</p><script>\"'&\u202e\x1b"
	const want = `&lt;/p&gt;&lt;script&gt;&#34;&#39;&amp;\u202e\x1b`
	if got := markup.Text(hostile); string(got) != want {
		t.Errorf("%q", got)
	}
	got := markup.Element("a", markup.Attributes{"href", "/x", "title", hostile, "download"}, markup.Text("a\tb\nc"))
	if string(got) != `<a href="/x" title="`+want+`" download="">`+"a\tb\nc</a>" {
		t.Errorf("%q", got)
	}
	if got := markup.Join(markup.Void("input", "value", "a\nb"), markup.Element("p", nil)); string(got) !=
		`<input value="a\nb"><p></p>`+"\n" {
		t.Errorf("%q", got)
	}
}
