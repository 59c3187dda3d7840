package cellapi

import (
	"net/http"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
)

// serveHTTP2Stream is a stream that the request's own goroutine writes: over HTTP/2, whose connection others share.
func (d *desiredHandlers) serveHTTP2Stream(w http.ResponseWriter, r *http.Request, c *api.Caller, e *cellEntry, known string) {
	f := d.fanout
	l := newWaiter(f, e, c, known)
	out := api.NewEventWriter(w)
	at := f.answers.latest()
	first := []byte(": as before\n\n")
	if tag := at.tagFor(e); tag == nil || !api.MatchesETag(known, tag.etag) {
		body, etag, ok := at.encodeAnswer(e)
		if !ok {
			api.WriteUnknownCell(w)
			return
		}
		l.setKnown(etag)
		first = desiredEvent(etag, body)
	}
	d.throttle.inFlight.Release()
	defer d.throttle.inFlight.Reacquire()
	if out.Write(first) != nil {
		return
	}
	f.metrics.Streams.Inc()
	e.addStream(l)
	defer e.removeStream(l)
	f.subscribe(e, l)
	defer f.unsubscribe(e, l)
	l.notify(f.answers.latest())
	l.recheckAccess()
	f.metrics.CountStreamEnd(l.follow(r, out))
}

// follow writes what l is woken for, until the stream ends, and says why it did.
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
		case again := <-l.closing:
			_ = out.Write(api.RetryEvent(again)) // an error: it has gone already
			return "stopping"
		case <-beat.C:
			b = []byte(":\n\n")
		case <-l.woken:
		}
		if !f.auth.StillAllowsCell(l.caller) {
			return "shut out"
		}
		if f.auth.CheckFresh() == nil { // else with the next heartbeat
			at := f.answers.latest()
			tag := at.tagFor(l.entry)
			if tag == nil {
				return "removed"
			}
			if !l.knowsETag(tag.etag) {
				if body, etag, ok := at.encodeAnswer(l.entry); ok {
					l.setKnown(etag)
					b = desiredEvent(etag, body)
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
