package process

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/internal/cleantext"
)

// Tail is a writer that takes any number of bytes and keeps the last of them. A child's stdout and stderr may share
// one.
type Tail struct {
	limit   int
	content []byte
	dropped int64
}

// NewTail returns a Tail of at most limit bytes.
func NewTail(limit int) *Tail { return &Tail{limit: limit} }

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	n := len(p)
	if n > t.limit {
		t.dropped += int64(n - t.limit)
		p = p[n-t.limit:]
	}
	// Up to twice the limit is kept, so that each byte is moved only once on average.
	if len(t.content)+len(p) > 2*t.limit {
		cut := len(t.content) + len(p) - t.limit
		t.dropped += int64(cut)
		t.content = append(t.content[:0], t.content[cut:]...)
	}
	t.content = append(t.content, p...)
	return n, nil
}

// Bytes returns the last bytes written, at most the limit.
func (t *Tail) Bytes() []byte {
	if len(t.content) > t.limit {
		return t.content[len(t.content)-t.limit:]
	}
	return t.content
}

// Dropped returns how many bytes are not in Bytes.
func (t *Tail) Dropped() int64 {
	return t.dropped + int64(len(t.content)-len(t.Bytes()))
}

// LastLine returns the last bytes, at most limit, as one clean line for an error message.
func (t *Tail) LastLine(limit int) string {
	text := bytes.TrimSpace(t.Bytes())
	if len(text) > limit {
		text = text[len(text)-limit:]
		for len(text) > 0 && !utf8.RuneStart(text[0]) { // of a rune that was cut
			text = text[1:]
		}
	}
	return cleantext.Line(strings.Join(strings.Fields(string(text)), " "))
}

// LimitedBuffer is a writer that takes at most limit bytes and then fails.
type LimitedBuffer struct {
	limit    int
	content  []byte
	exceeded bool
}

// NewLimitedBuffer returns a LimitedBuffer of at most limit bytes.
func NewLimitedBuffer(limit int) *LimitedBuffer { return &LimitedBuffer{limit: limit} }

// Write fails if the limit would be exceeded. A child whose output fails is then ended by SIGPIPE.
func (h *LimitedBuffer) Write(p []byte) (int, error) {
	if len(h.content)+len(p) > h.limit {
		h.exceeded = true
		return 0, fmt.Errorf("more than %d bytes of output", h.limit)
	}
	h.content = append(h.content, p...)
	return len(p), nil
}

// Exceeded reports whether more was written than fits.
func (h *LimitedBuffer) Exceeded() bool { return h.exceeded }

// Bytes returns what was written.
func (h *LimitedBuffer) Bytes() []byte { return h.content }
