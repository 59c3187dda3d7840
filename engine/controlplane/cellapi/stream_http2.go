package cellapi

import (
	"net/http"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
)

// streamHTTP2 is a stream that the request's own goroutine writes: over HTTP/2, whose connection others share.
func (d *desired) streamHTTP2(w http.ResponseWriter, r *http.Request, c *api.Caller, e *cellEntry, known string) {
	f := d.fanout
	l := newWaiter(f, e, c, known)
	out := api.NewEventWriter(w)
	at := f.answers.latest()
	first := []byte(": as before\n\n")
	if tag := at.tagOf(e); tag == nil || !api.Matches(known, tag.etag) {
		body, etag, ok := at.encode(e)
		if !ok {
			api.UnknownCell(w)
			return
		}
		l.has(etag)
		first = event(etag, body)
	}
	d.throttle.inFlight.Leave()
	defer d.throttle.inFlight.Return()
	if out.Write(first) != nil {
		return
	}
	f.metrics.Streams.Inc()
	e.addStream(l)
	defer e.removeStream(l)
	f.add(e, l)
	defer f.remove(e, l)
	l.notify(f.answers.latest())
	l.recheck()
	f.metrics.StreamEnded(l.follow(r, out))
}

// follow writes what l is woken for, until the stream ends, and says why it did.
func (l *waiter) follow(r *http.Request, out api.EventWriter) string {
	f := l.fanout
	beat := time.NewTicker(api.Heartbeat - time.Duration(l.entry.hash)%beatSpread)
	defer beat.Stop()
	for {
		var b []byte
		select {
		case <-r.Context().Done():
			return "gone"
		case reason := <-l.ended:
			return reason
		case again := <-l.closing:
			_ = out.Write(api.ComeBack(again)) // an error: it has gone already
			return "stopping"
		case <-beat.C:
			b = []byte(":\n\n")
		case <-l.woken:
		}
		if !f.auth.Still(l.who) {
			return "shut out"
		}
		if f.auth.Fresh() == nil { // else with the next heartbeat
			at := f.answers.latest()
			tag := at.tagOf(l.entry)
			if tag == nil {
				return "removed"
			}
			if !l.knows(tag.etag) {
				if body, etag, ok := at.encode(l.entry); ok {
					l.has(etag)
					b = event(etag, body)
					f.metrics.Events.Inc()
				}
			}
		}
		if b == nil {
			continue
		}
		if err := out.Write(b); err != nil {
			return closeReason(err)
		}
	}
}
