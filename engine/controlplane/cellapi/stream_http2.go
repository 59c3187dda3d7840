package cellapi

import (
	"net/http"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
)

// serveHTTP2Stream serves a stream over HTTP/2, whose connection other requests share, from the request's own
// goroutine.
func (d *desiredHandlers) serveHTTP2Stream(
	w http.ResponseWriter, r *http.Request, c *api.Caller, e *cellEntry, known string,
) {
	f := d.fanout
	l := newWaiter(f, e, c, known)
	out := api.NewEventWriter(w)
	snap := f.answers.latest()
	first := []byte(": as before\n\n")
	if tag := snap.tagFor(e); tag == nil || !api.MatchesETag(known, tag.etag) {
		event, etag, ok := snap.encodeEvent(e, nil)
		if !ok {
			api.WriteUnknownCell(w)
			return
		}
		l.setKnown(etag)
		first = event
	}
	d.throttle.inFlight.Release()
	defer d.throttle.inFlight.Reacquire()
	if out.Write(first) != nil {
		return
	}
	f.metrics.Streams.Inc()
	e.addStream(l, c.Boot)
	defer e.removeStream(l)
	f.subscribe(e, l)
	defer f.unsubscribe(e, l)
	l.notify(f.answers.latest())
	l.recheckAccess()
	f.metrics.CountStreamEnd(l.follow(r, out))
}

// follow writes events until the stream ends, and returns the reason.
func (l *waiter) follow(r *http.Request, out api.EventWriter) string {
	f := l.fanout
	beat := time.NewTicker(api.Heartbeat - time.Duration(l.entry.hash)%heartbeatSpread)
	defer beat.Stop()
	for {
		var b []byte
		select {
		case <-r.Context().Done():
			return "gone"
		case reason := <-l.ended:
			return reason
		case retryAfter := <-l.closing:
			_ = out.Write(api.RetryEvent(retryAfter)) // an error means that the peer has gone
			return "stopping"
		case <-beat.C:
			b = []byte(":\n\n")
		case <-l.woken:
		}
		if !f.auth.StillAllowsCell(l.caller) {
			return "shut out"
		}
		if f.auth.CheckFresh() == nil { // otherwise with the next heartbeat
			snap := f.answers.latest()
			tag := snap.tagFor(l.entry)
			if tag == nil {
				return "removed"
			}
			if !l.knowsETag(tag.etag) {
				if event, etag, ok := snap.encodeEvent(l.entry, nil); ok {
					l.setKnown(etag)
					b = event
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
