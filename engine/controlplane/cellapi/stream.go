package cellapi

// How a cell learns of changes: by a stream (this file; over HTTP/2, stream_http2.go) or by a long poll (desired.go,
// waiter.go). Both are subscribers of the fanout.
//
//	a new View ──▶ answerCache.latest ── a new snapshot: its generation, and each cell's entry
//	                     │
//	   fanout: a few shards, a goroutine each, woken by snapshot.replaced
//	                     │  for each subscriber of the shard, in turn
//	                     ▼
//	   stream.notify ── snapshot.refreshEntry: has this cell's ETag changed? ── no: nothing is written
//	                     │ yes
//	                     ▼
//	   snapshot.appendEvent, StreamConn.Write ── bytes that the kernel does not take stay pending
//	                     │ all pending bytes are written
//	                     ▼
//	   stream.onDrained ── catchUp: the newest answer is written, if it changed meanwhile
//
// A stream has no goroutine and no buffer: ten thousand idle streams cost a connection and this struct each. A stream
// begins in start, on a connection taken over from net/http, and ends in close, once, for one reason: gone, slow,
// removed, replaced, shut out or stopping. Between the two the shard's goroutine calls notify, sendHeartbeat and
// recheckAccess; the connection calls onDrained. stream.mu is held while writing, and cellEntry.mu may be locked under
// it, never the other way around.

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
	"github.com/sluice-cd/sluice/releases"
)

const (
	heartbeatSpread = 4 * time.Second // heartbeats are up to this much early, so that they do not coincide
	maxStreams      = 2               // of one cell, whose agent may reconnect before its last stream is found dead
)

// closer is a stream over either HTTP version.
type closer interface{ close(reason string) }

// stream is a subscriber that writes events to a connection taken over from net/http.
type stream struct {
	fanout *fanout
	entry  *cellEntry
	caller *api.Caller
	conn   transport.StreamConn

	mu         sync.Mutex      // guards what follows, and is held while writing
	etag       string          // of the last event
	bundle     releases.Digest // of flags, as the last event names it
	generation uint64          // of the view of the last event
	lastWrite  time.Duration
	closed     bool
	closing    bool // no more events: the stream closes once all bytes are written
}

// serveStream answers GET /v1/desired with Accept: text/event-stream.
func (d *desiredHandlers) serveStream(w http.ResponseWriter, r *http.Request, c *api.Caller, e *cellEntry) {
	if d.fanout.shutdown.Begun() {
		api.SetRetryAfter(w, 1+int(e.hash%8))
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"This server is stopping: retry after the time in Retry-After.")
		return
	}
	known := r.Header.Get("Last-Event-ID")
	if known == "" {
		known = r.Header.Get("If-None-Match")
	}
	if r.ProtoMajor > 1 {
		d.serveHTTP2Stream(w, r, c, e, known)
		return
	}
	id := w.Header().Get("X-Request-Id")
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if errors.Is(err, http.ErrNotSupported) {
		d.serveHTTP2Stream(w, r, c, e, known)
		return
	}
	api.NoteStatus(w, http.StatusOK)
	if err != nil || buffered.Reader.Buffered() > 0 { // a client must not send more on this connection
		if conn != nil {
			_ = conn.Close()
		}
		return
	}
	l := &stream{fanout: d.fanout, entry: e, caller: c, lastWrite: time.Since(d.fanout.clockStart)}
	l.conn = transport.NewStreamConn(conn, l.onDrained)
	l.start(known, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: private, no-store\r\n"+
		"X-Accel-Buffering: no\r\nConnection: close\r\nX-Request-Id: "+
		id+"\r\nDate: "+time.Now().UTC().Format(http.TimeFormat)+"\r\n\r\n")
}

// start writes the first event at once, so that the cell detects a proxy that buffers responses (R33).
func (l *stream) start(known, head string) {
	f := l.fanout
	snap := f.answers.latest()
	l.mu.Lock()
	first := []byte(head)
	if tag := snap.tagFor(l.entry); tag != nil && api.MatchesETag(known, tag.etag) {
		l.etag, l.generation, l.bundle = tag.etag, snap.generation, snap.toldBundle(l.entry.name)
		first = append(first, ": as before\n\n"...)
	} else if event, etag, ok := snap.encodeEvent(l.entry, first); ok { // without the bundle, which it may have on disk
		l.etag, l.generation, l.bundle = etag, snap.generation, snap.toldBundle(l.entry.name)
		first = event
	}
	err := l.writeLocked(first)
	l.mu.Unlock()
	f.metrics.Streams.Inc()
	if err != nil {
		l.close("gone")
		return
	}
	l.entry.addStream(l, l.caller.Boot)
	f.subscribe(l.entry, l)
	l.catchUp() // with changes before the subscription
	l.recheckAccess()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed { // perhaps before it was added
		f.unsubscribe(l.entry, l)
	}
}

// writeLocked writes b. The caller holds l.mu.
func (l *stream) writeLocked(b []byte) error {
	l.lastWrite = time.Since(l.fanout.clockStart)
	_, err := l.conn.Write(b)
	return err
}

func (l *stream) notify(snap *snapshot) {
	if reason := l.writeChange(snap); reason != "" {
		l.close(reason)
	}
}

// writeChange writes the cell's answer if it changed. It returns a reason to close the stream, or "".
func (l *stream) writeChange(snap *snapshot) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.closing || snap.generation < l.generation || snap.view == nil {
		return ""
	}
	made := l.fanout.events.Get().(*event)
	defer l.fanout.events.Put(made)
	tag, fresh := snap.refreshEntry(l.entry, &made.answer)
	switch {
	case tag == nil:
		return "removed"
	case tag.etag == l.etag:
		return ""
	case l.conn.HasPending(): // onDrained catches up
		return ""
	}
	etag := tag.etag
	if !fresh {
		var ok bool
		if made.answer, etag, ok = snap.view.Cell(l.entry.name); !ok || etag == l.etag { // a newer view will notify
			return ""
		}
	}
	snap.inlineBundle(&made.answer, l.bundle)
	text, err := snap.appendEvent(made.text[:0], l.entry, &made.answer, etag)
	if err != nil { // values that came from YAML always encode
		return ""
	}
	made.text = text
	l.etag, l.generation = etag, snap.generation
	if f := made.answer.Flags; f != nil {
		l.bundle = f.Bundle.Digest
	}
	l.fanout.metrics.Events.Inc()
	if err := l.writeLocked(text); err != nil {
		return closeReason(err)
	}
	return ""
}

// event is an answer while it is made and written. A write keeps none of its bytes.
type event struct {
	answer cells.Desired
	text   []byte
}

// onDrained is called by the connection when all pending bytes are written, or when writing failed.
func (l *stream) onDrained(err error) {
	l.mu.Lock()
	closing := l.closing
	l.mu.Unlock()
	switch {
	case err != nil:
		l.close(closeReason(err))
	case closing:
		l.close("stopping")
	default:
		l.catchUp()
	}
}

// catchUp writes the newest answer, unless a revocation may be unknown.
func (l *stream) catchUp() {
	if l.fanout.auth.CheckFresh() == nil {
		l.notify(l.fanout.answers.latest())
	}
}

func closeReason(err error) string {
	if transport.IsSlowPeer(err) {
		return "slow"
	}
	return "gone"
}

func (l *stream) sendHeartbeat(now time.Duration) {
	l.mu.Lock()
	due := !l.closed && !l.closing &&
		now-l.lastWrite >= api.Heartbeat-heartbeatCheck-time.Duration(l.entry.hash)%heartbeatSpread &&
		!l.conn.HasPending()
	var err error
	if due {
		err = l.writeLocked([]byte(":\n\n"))
	}
	l.mu.Unlock()
	switch {
	case err != nil:
		l.close(closeReason(err))
	case due:
		l.checkPeer()
	}
}

// recheckAccess closes the stream of a cell that was revoked, or whose key was replaced.
func (l *stream) recheckAccess() {
	if !l.fanout.auth.StillAllowsCell(l.caller) {
		l.close("shut out")
	}
}

func (l *stream) closeWithRetry(retryAfter time.Duration) {
	l.mu.Lock()
	if !l.closed && !l.closing {
		_ = l.writeLocked(api.RetryEvent(retryAfter)) // an error means that the peer has gone
		l.closing = true
	}
	later := l.conn.HasPending()
	l.mu.Unlock()
	if !later { // otherwise onDrained closes the stream
		l.close("stopping")
	}
}

// close ends the stream. Only the first call has an effect.
func (l *stream) close(reason string) {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if !first {
		return
	}
	l.entry.removeStream(l)
	l.fanout.unsubscribe(l.entry, l)
	l.fanout.metrics.CountStreamEnd(reason)
	_ = l.conn.Close()
}

// checkPeer closes the stream if the peer has ended the connection, which no read reports.
func (l *stream) checkPeer() {
	sent, ended := l.conn.PeekPeer()
	switch {
	case ended:
		l.close("gone")
	case sent:
		go func() {
			if l.conn.PeerEnded(heartbeatCheck) {
				l.close("gone")
			}
		}()
	}
}

// cellStream is a stream of a cell, with the boot that opened it.
type cellStream struct {
	closer
	boot string
}

// addStream adds a stream. It closes the cell's ended streams, as a whole fleet may reconnect before heartbeats find
// its last streams dead, the oldest stream if there are more than maxStreams, and those of other boots: an agent that
// ended does not open another, while a second machine with the same key does, and is found (R27).
func (e *cellEntry) addStream(c closer, boot string) {
	e.mu.Lock()
	before := slices.Clone(e.streams)
	e.mu.Unlock()
	for _, o := range before {
		if l, ok := o.closer.(*stream); ok {
			l.checkPeer()
		}
	}
	e.mu.Lock()
	var replaced []cellStream
	e.streams = slices.DeleteFunc(e.streams, func(o cellStream) bool {
		if o.boot != boot {
			replaced = append(replaced, o)
		}
		return o.boot != boot
	})
	e.streams = append(e.streams, cellStream{c, boot})
	if len(e.streams) > maxStreams {
		replaced = append(replaced, e.streams[0])
		e.streams = slices.Delete(e.streams, 0, 1)
	}
	e.mu.Unlock()
	for _, o := range replaced {
		o.close("replaced")
	}
}

func (e *cellEntry) removeStream(c closer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams = slices.DeleteFunc(e.streams, func(o cellStream) bool { return o.closer == c })
}
