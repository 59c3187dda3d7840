package ofrep

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Limits of streams.
const (
	maxStreams   = 256
	heartbeat    = 15 * time.Second
	writeTimeout = 5 * time.Second
)

// serveEvents streams when to evaluate again: at once, unless Last-Event-ID is the current revision, and after each
// change.
func (h *handler) serveEvents(w http.ResponseWriter, r *http.Request) {
	if h.streams.Add(1) > maxStreams {
		h.streams.Add(-1)
		w.Header().Set("Retry-After", "30")
		writeFailure(w, http.StatusTooManyRequests, "", "",
			"too many event streams: poll instead, or retry later")
		return
	}
	defer h.streams.Add(-1)
	s := stream{w: w, control: http.NewResponseController(w)}
	// lifts the server's limit for requests: a stream ends with its caller
	_ = s.control.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	if s.send("retry: 2000\n\n") != nil {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	known := r.Header.Get("Last-Event-ID")
	for {
		changed := h.source.Changed() // before Current, so that no change is missed
		if f, _ := h.source.Current(); f != nil && f.Revision() != known {
			known = f.Revision()
			if s.send("id: "+known+"\ndata: {\"type\":\"refetchEvaluation\"}\n\n") != nil {
				return
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-beat.C:
			if s.send(":\n\n") != nil {
				return
			}
		}
	}
}

type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s *stream) send(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // fails only without a connection
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

// Server returns a server for a handler, with limits for callers on the same machine. Streams end with ctx: cancel ctx
// before Shutdown, which waits for streams.
func Server(ctx context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second, // of an answer; streams set their own deadline
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
}
