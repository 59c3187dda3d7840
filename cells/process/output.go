package process

import (
	"bytes"
	"fmt"
	"strings"
)

// Tail is a writer that keeps the last bytes written to it, and takes any number.
// A child's stdout and stderr may share one.
type Tail struct {
	limit   int
	kept    []byte
	dropped int64
}

// NewTail makes a Tail of at most limit bytes.
func NewTail(limit int) *Tail { return &Tail{limit: limit} }

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	n := len(p)
	if n > t.limit {
		t.dropped += int64(n - t.limit)
		p = p[n-t.limit:]
	}
	// Twice the limit is kept, so that shifting costs a byte only once on average.
	if len(t.kept)+len(p) > 2*t.limit {
		cut := len(t.kept) + len(p) - t.limit
		t.dropped += int64(cut)
		t.kept = append(t.kept[:0], t.kept[cut:]...)
	}
	t.kept = append(t.kept, p...)
	return n, nil
}

// Bytes gives what was kept: the last bytes, at most the limit.
func (t *Tail) Bytes() []byte {
	if len(t.kept) > t.limit {
		return t.kept[len(t.kept)-t.limit:]
	}
	return t.kept
}

// Dropped tells how many bytes are not in Bytes.
func (t *Tail) Dropped() int64 {
	return t.dropped + int64(len(t.kept)-len(t.Bytes()))
}

// Last gives the last bytes as one line of at most limit bytes, for an error message.
func (t *Tail) Last(limit int) string {
	text := bytes.ToValidUTF8(bytes.TrimSpace(t.Bytes()), []byte("?"))
	if len(text) > limit {
		text = bytes.ToValidUTF8(text[len(text)-limit:], nil)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// Head is a writer that takes at most limit bytes and fails beyond.
type Head struct {
	limit int
	kept  []byte
	full  bool
}

// NewHead makes a Head of at most limit bytes.
func NewHead(limit int) *Head { return &Head{limit: limit} }

// Write fails if it would pass the limit. A child whose output fails so is ended by SIGPIPE.
func (h *Head) Write(p []byte) (int, error) {
	if len(h.kept)+len(p) > h.limit {
		h.full = true
		return 0, fmt.Errorf("more than %d bytes of output", h.limit)
	}
	h.kept = append(h.kept, p...)
	return len(p), nil
}

// Full tells whether more was written than fits.
func (h *Head) Full() bool { return h.full }

// Bytes gives what was written.
func (h *Head) Bytes() []byte { return h.kept }
