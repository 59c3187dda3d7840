package controlplane

import (
	"net/http"
	"strconv"
	"time"
)

// streamHere is a stream that the request's own goroutine writes: over HTTP/2, whose connection others share.
func (s *Server) streamHere(w http.ResponseWriter, r *http.Request, p *place, known string) {
	l := newWaiter(s, p, asking(w, r), known)
	out := newFlusher(w)
	at := s.board.now()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "private, no-store")
	h.Set("X-Accel-Buffering", "no")
	first := []byte(": as before\n\n")
	if said := at.answer(p); said == nil || !matches(known, said.etag) {
		body, etag, ok := at.encode(p)
		if !ok {
			unknownCell(w)
			return
		}
		l.has(etag)
		first = event(etag, body)
	}
	s.flights.leave()
	defer s.flights.back()
	if out.write(first) != nil {
		return
	}
	s.metrics.streams.Inc()
	p.adopt(l)
	defer p.disown(l)
	s.fanout.add(p, l)
	defer s.fanout.remove(p, l)
	l.tell(s.board.now())
	l.recheck()
	s.metrics.cut(s.follow(r, out, l))
}

// follow writes what l is woken for, until the stream ends, and says why it did.
func (s *Server) follow(r *http.Request, out flusher, l *waiter) string {
	beat := time.NewTicker(heartbeat - time.Duration(l.place.hash)%beatSpread)
	defer beat.Stop()
	for {
		var b []byte
		select {
		case <-r.Context().Done():
			return "gone"
		case reason := <-l.ended:
			return reason
		case again := <-l.going:
			_ = out.write(comeBack(again)) // an error: it has gone already
			return "stopping"
		case <-beat.C:
			b = []byte(":\n\n")
		case <-l.woken:
		}
		if !s.still(l.who) {
			return "shut out"
		}
		if s.fresh() == nil { // else with the next heartbeat
			at := s.board.now()
			said := at.answer(l.place)
			if said == nil {
				return "removed"
			}
			if !l.knows(said.etag) {
				if body, etag, ok := at.encode(l.place); ok {
					l.has(etag)
					b = event(etag, body)
					s.metrics.told.Inc()
				}
			}
		}
		if b == nil {
			continue
		}
		if err := out.write(b); err != nil {
			return reasonOf(err)
		}
	}
}

// flusher writes events so that they arrive at once, each within slowFor.
type flusher struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func newFlusher(w http.ResponseWriter) flusher { return flusher{w, http.NewResponseController(w)} }

func (f flusher) write(b []byte) error {
	_ = f.c.SetWriteDeadline(time.Now().Add(slowFor)) // a server without deadlines goes on as it is
	if _, err := f.w.Write(b); err != nil {
		return err
	}
	if err := f.c.Flush(); err != nil {
		return err
	}
	return f.c.SetWriteDeadline(time.Time{})
}

// comeBack says when a client whose stream ends should ask for another, as the standard of event streams has it.
func comeBack(after time.Duration) []byte {
	return append(strconv.AppendInt([]byte("retry: "), after.Milliseconds(), 10), "\n\n"...)
}
