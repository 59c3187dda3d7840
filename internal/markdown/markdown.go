// Package markdown renders what people wrote in Markdown, such as the notes of a release, as HTML that can do no harm
// in a page of ours: links lead to the web and to mail alone, and HTML in it is text.
//
// It reads nothing but its argument, whose length it bounds. A Renderer may be used by several goroutines at once.
package markdown

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/markup"
)

// MaxNotes bounds the notes of one release or announcement, in bytes: rendering can take quadratic time.
const MaxNotes = 16 << 10

// truncationMark ends truncated notes.
const truncationMark = "\n\n…\n"

// TruncateNotes truncates notes to MaxNotes.
func TruncateNotes(notes string) string {
	if len(notes) <= MaxNotes {
		return notes
	}
	notes = notes[:MaxNotes]
	if i := strings.LastIndexByte(notes, '\n'); i > MaxNotes/2 {
		notes = notes[:i]
	}
	return strings.ToValidUTF8(notes, "") + truncationMark
}

// Renderer renders notes and caches the results. It is safe for concurrent use.
type Renderer struct {
	markdown goldmark.Markdown

	mu       sync.Mutex
	rendered map[string]markup.HTML // by notes; at most maxRendered
}

// maxRendered bounds the cache: it suffices for the bulletins of some channels.
const maxRendered = 200

// NewRenderer returns a Renderer.
func NewRenderer() *Renderer {
	// Cells are aligned by attribute: the page's policy forbids inline styles.
	table := extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute))
	return &Renderer{rendered: map[string]markup.HTML{}, markdown: goldmark.New(
		goldmark.WithExtensions(table, extension.Strikethrough, extension.Linkify),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(safeRenderer{}, 100))),
	)}
}

// Notes renders the notes of a release or of an announcement as safe HTML; empty: there are none.
func (p *Renderer) Notes(notes string) (markup.HTML, error) {
	notes = cleantext.Text(notes)
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.rendered[notes]; ok {
		return known, nil
	}
	var b bytes.Buffer
	if err := p.markdown.Convert([]byte(TruncateNotes(notes)), &b); err != nil {
		return "", err
	}
	if len(p.rendered) >= maxRendered {
		clear(p.rendered)
	}
	done := markup.HTML(b.String()) // safeRenderer makes it safe
	p.rendered[notes] = done
	return done, nil
}

// safeRenderer renders what could do harm: links only to the web and to mail, images as their text, HTML as text, and
// headings below the page's own.
type safeRenderer struct{}

// RegisterFuncs implements renderer.NodeRenderer.
func (h safeRenderer) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindHeading, h.renderHeading)
	r.Register(ast.KindLink, h.renderLink)
	r.Register(ast.KindAutoLink, h.renderAutoLink)
	r.Register(ast.KindImage, h.renderImage)
	r.Register(ast.KindRawHTML, h.renderRawHTML)
	r.Register(ast.KindHTMLBlock, h.renderHTMLBlock)
}

// firstHeading is the level of the notes' top headings, below the page's own.
const firstHeading = 4

func (safeRenderer) renderHeading(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	level := min(n.(*ast.Heading).Level+firstHeading-1, 6)
	if entering {
		_, _ = w.WriteString("<h" + strconv.Itoa(level) + ">")
	} else {
		_, _ = w.WriteString("</h" + strconv.Itoa(level) + ">\n")
	}
	return ast.WalkContinue, nil
}

// openLink begins a link if its address is allowed.
func openLink(w util.BufWriter, to []byte) bool {
	address := util.URLEscape(to, true)
	u, err := url.Parse(string(address))
	if err != nil || u.Scheme != "mailto" && (u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		return false
	}
	_, _ = w.WriteString(`<a href="`)
	_, _ = w.Write(util.EscapeHTML(address))
	_, _ = w.WriteString(`" rel="noopener noreferrer nofollow">`)
	return true
}

func (safeRenderer) renderLink(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	l := n.(*ast.Link)
	if entering {
		l.SetAttributeString("open", openLink(w, l.Destination))
	} else if is, _ := l.AttributeString("open"); is == true {
		_, _ = w.WriteString("</a>")
	}
	return ast.WalkContinue, nil
}

func (safeRenderer) renderAutoLink(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	l := n.(*ast.AutoLink)
	to := l.URL(source)
	if l.AutoLinkType == ast.AutoLinkEmail {
		to = append([]byte("mailto:"), bytes.TrimPrefix(to, []byte("mailto:"))...)
	}
	is := openLink(w, to)
	_, _ = w.Write(util.EscapeHTML(l.Label(source)))
	if is {
		_, _ = w.WriteString("</a>")
	}
	return ast.WalkContinue, nil
}

// renderImage leaves the image's text, which goldmark renders next.
func (safeRenderer) renderImage(util.BufWriter, []byte, ast.Node, bool) (ast.WalkStatus, error) {
	return ast.WalkContinue, nil
}

func (safeRenderer) renderRawHTML(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		_, _ = w.Write(util.EscapeHTML(n.(*ast.RawHTML).Segments.Value(source)))
	}
	return ast.WalkSkipChildren, nil
}

func (safeRenderer) renderHTMLBlock(
	w util.BufWriter, source []byte, n ast.Node, entering bool,
) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	b := n.(*ast.HTMLBlock)
	_, _ = w.WriteString("<p>")
	_, _ = w.Write(util.EscapeHTML(b.Lines().Value(source)))
	if b.HasClosure() {
		_, _ = w.Write(util.EscapeHTML(b.ClosureLine.Value(source)))
	}
	_, _ = w.WriteString("</p>\n")
	return ast.WalkSkipChildren, nil
}
