package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	Heartbeat         = 15 * time.Second // a stream says something at least so often (R33)
	eventWriteTimeout = 10 * time.Second // how long a stream's other side may take to read what was written
)

// WantsStream reports whether a request asks for events.
func WantsStream(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	for _, accept := range r.Header["Accept"] {
		for one := range strings.SplitSeq(accept, ",") {
			kind, _, _ := strings.Cut(one, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// EventWriter writes events so that they arrive at once, each within slowWithin.
type EventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// NewEventWriter begins a stream: it writes its headers.
func NewEventWriter(w http.ResponseWriter) EventWriter {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "private, no-store")
	h.Set("X-Accel-Buffering", "no")
	return EventWriter{w, http.NewResponseController(w)}
}

// Write writes whole events.
func (f EventWriter) Write(b []byte) error {
	_ = f.control.SetWriteDeadline(time.Now().Add(eventWriteTimeout)) // a server without deadlines goes on as it is
	if _, err := f.w.Write(b); err != nil {
		return err
	}
	if err := f.control.Flush(); err != nil {
		return err
	}
	return f.control.SetWriteDeadline(time.Time{})
}

// RetryEvent says when a client whose stream ends should ask for another, as the standard of event streams has it.
func RetryEvent(after time.Duration) []byte {
	return append(strconv.AppendInt([]byte("retry: "), after.Milliseconds(), 10), "\n\n"...)
}
