package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	Heartbeat         = 15 * time.Second // longest silence of a stream (R33)
	eventWriteTimeout = 10 * time.Second // how long the client may take to read what was written
)

// WantsStream reports whether a request accepts an event stream.
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

// EventWriter writes and flushes events, each within eventWriteTimeout.
type EventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// NewEventWriter sets the headers of an event stream and returns its writer.
func NewEventWriter(w http.ResponseWriter) EventWriter {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "private, no-store")
	h.Set("X-Accel-Buffering", "no")
	return EventWriter{w, http.NewResponseController(w)}
}

// Write writes whole events and flushes them.
func (f EventWriter) Write(b []byte) error {
	// ResponseWriters without deadlines return an error
	_ = f.control.SetWriteDeadline(time.Now().Add(eventWriteTimeout))
	if _, err := f.w.Write(b); err != nil {
		return err
	}
	if err := f.control.Flush(); err != nil {
		return err
	}
	return f.control.SetWriteDeadline(time.Time{})
}

// RetryEvent returns the event that tells a client how long to wait before it reconnects, as the event stream standard
// defines.
func RetryEvent(after time.Duration) []byte {
	return append(strconv.AppendInt([]byte("retry: "), after.Milliseconds(), 10), "\n\n"...)
}
