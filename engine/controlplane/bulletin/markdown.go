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

// cut is what was cut off, for readers.
const cut = "\n\n…\n"

// Shorten bounds notes.
func Shorten(notes string) string {
	if len(notes) <= MaxNotes {
		return notes
	}
	notes = notes[:MaxNotes]
	if i := strings.LastIndexByte(notes, '\n'); i > MaxNotes/2 {
		notes = notes[:i]
	}
	return strings.ToValidUTF8(notes, "") + cut
}

// printer renders notes, the same ones once. It is safe for concurrent use.
type printer struct {
	markdown goldmark.Markdown

	mu    sync.Mutex
	known map[string]markup // by notes; at most maxKnown
}

// maxKnown is how many rendered notes are kept: all that a bulletin of any channel shows, most likely.
const maxKnown = 4 * Most

func newPrinter() *printer {
	table := extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)) // a style is not allowed on the page
	return &printer{known: map[string]markup{}, markdown: goldmark.New(
		goldmark.WithExtensions(table, extension.Strikethrough, extension.Linkify),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(harmless{}, 100))),
	)}
}

// print renders notes as HTML that is safe to show.
func (p *printer) print(notes string) (markup, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.known[notes]; ok {
		return known, nil
	}
	var b bytes.Buffer
	if err := p.markdown.Convert([]byte(Shorten(notes)), &b); err != nil {
		return "", err
	}
	if len(p.known) >= maxKnown {
		clear(p.known)
	}
	done := markup(b.String()) // by harmless
	p.known[notes] = done
	return done, nil
}

// harmless renders what could do harm, in its own way: links only to the web and to mail, images as their text, HTML as the text
// that it is; and headings below those of the page.
type harmless struct{}

// RegisterFuncs is a renderer.NodeRenderer's.
func (h harmless) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindHeading, h.heading)
	r.Register(ast.KindLink, h.link)
	r.Register(ast.KindAutoLink, h.autoLink)
	r.Register(ast.KindImage, h.image)
	r.Register(ast.KindRawHTML, h.rawHTML)
	r.Register(ast.KindHTMLBlock, h.block)
}

// firstHeading is the level of notes' first headings: the page has those above.
const firstHeading = 4

func (harmless) heading(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	level := min(n.(*ast.Heading).Level+firstHeading-1, 6)
	if entering {
		_, _ = w.WriteString("<h" + strconv.Itoa(level) + ">")
	} else {
		_, _ = w.WriteString("</h" + strconv.Itoa(level) + ">\n")
	}
	return ast.WalkContinue, nil
}

// open begins a link, if it leads where one may.
func open(w util.BufWriter, to []byte) bool {
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

func (harmless) link(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	l := n.(*ast.Link)
	if entering {
		l.SetAttributeString("open", open(w, l.Destination))
	} else if is, _ := l.AttributeString("open"); is == true {
		_, _ = w.WriteString("</a>")
	}
	return ast.WalkContinue, nil
}

func (harmless) autoLink(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	l := n.(*ast.AutoLink)
	to := l.URL(source)
	if l.AutoLinkType == ast.AutoLinkEmail {
		to = append([]byte("mailto:"), bytes.TrimPrefix(to, []byte("mailto:"))...)
	}
	is := open(w, to)
	_, _ = w.Write(util.EscapeHTML(l.Label(source)))
	if is {
		_, _ = w.WriteString("</a>")
	}
	return ast.WalkContinue, nil
}

// image shows what stands for the image: its text is rendered as the text around is.
func (harmless) image(util.BufWriter, []byte, ast.Node, bool) (ast.WalkStatus, error) {
	return ast.WalkContinue, nil
}

func (harmless) rawHTML(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		_, _ = w.Write(util.EscapeHTML(n.(*ast.RawHTML).Segments.Value(source)))
	}
	return ast.WalkSkipChildren, nil
}

func (harmless) block(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
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
