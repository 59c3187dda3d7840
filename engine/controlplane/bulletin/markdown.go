package bulletin

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
)

// MaxNotes is how much of one release's or announcement's notes is shown, in bytes: the time to render some grows with the
// square of it.
const MaxNotes = 16 << 10

// truncationMark is what was cut off, for readers.
const truncationMark = "\n\n…\n"

// TruncateNotes bounds notes.
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

// notesRenderer renders notes, the same ones once. It is safe for concurrent use.
type notesRenderer struct {
	markdown goldmark.Markdown

	mu       sync.Mutex
	rendered map[string]markup // by notes; at most maxKnown
}

// maxRendered is how many rendered notes are kept: all that a bulletin of any channel shows, most likely.
const maxRendered = 4 * MaxItems

func newNotesRenderer() *notesRenderer {
	table := extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)) // a style is not allowed on the page
	return &notesRenderer{rendered: map[string]markup{}, markdown: goldmark.New(
		goldmark.WithExtensions(table, extension.Strikethrough, extension.Linkify),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(safeRenderer{}, 100))),
	)}
}

// renderNotes renders notes as HTML that is safe to show.
func (p *notesRenderer) renderNotes(notes string) (markup, error) {
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
	done := markup(b.String()) // by harmless
	p.rendered[notes] = done
	return done, nil
}

// safeRenderer renders what could do harm, in its own way: links only to the web and to mail, images as their text, HTML as the text
// that it is; and headings below those of the page.
type safeRenderer struct{}

// RegisterFuncs is a renderer.NodeRenderer's.
func (h safeRenderer) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindHeading, h.renderHeading)
	r.Register(ast.KindLink, h.renderLink)
	r.Register(ast.KindAutoLink, h.renderAutoLink)
	r.Register(ast.KindImage, h.renderImage)
	r.Register(ast.KindRawHTML, h.renderRawHTML)
	r.Register(ast.KindHTMLBlock, h.renderHTMLBlock)
}

// firstHeading is the level of notes' first headings: the page has those above.
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

// openLink begins a link, if it leads where one may.
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

// renderImage shows what stands for the image: its text is rendered as the text around is.
func (safeRenderer) renderImage(util.BufWriter, []byte, ast.Node, bool) (ast.WalkStatus, error) {
	return ast.WalkContinue, nil
}

func (safeRenderer) renderRawHTML(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		_, _ = w.Write(util.EscapeHTML(n.(*ast.RawHTML).Segments.Value(source)))
	}
	return ast.WalkSkipChildren, nil
}

func (safeRenderer) renderHTMLBlock(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
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
