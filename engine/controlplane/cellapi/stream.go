package cellapi

// How a cell learns of what changed: by a stream (this file; over HTTP/2, stream_http2.go) or by a poll that waits
// (desired.go, waiter.go). All are subscribers of the fanout.
//
//	a new View ──▶ answerCache.latest ── a new snapshot: its number, and each cell's entry
//	                     │
//	   fanout: a few shards, a goroutine each, woken by snapshot.over
//	                     │  for each subscriber of the shard, in turn
//	                     ▼
//	   stream.notify ── snapshot.refresh(entry): has this cell's ETag changed? ── no: nothing is written
//	                     │ yes
//	                     ▼
//	   snapshot.encode, PushConn.Write ── what the kernel has no room for is kept; nobody waits
//	                     │ the other side was behind, and has read all
//	                     ▼
//	   stream.drained ── catchUp: what changed meanwhile is written, the newest answer only
//
// A stream has no goroutine and no buffer: ten thousand idle ones cost a connection and this struct each. It begins in
// begin, on a connection that is taken over from net/http, and ends in close, once, for one reason: gone, slow, removed,
// replaced, shut out or stopping. Between the two the shard's goroutine calls notify, beat and recheck; drained is called by
// the connection. stream.mu is held while writing, and cellEntry.mu may be taken under it, never the other way around.

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
)

const (
	heartbeatSpread = 4 * time.Second // heartbeats come up to so much earlier, so that not all come at once
	maxStreams      = 2               // of one cell: an agent that comes back may not know yet that its last stream is dead
)

// closer is a stream of either kind.
type closer interface{ close(reason string) }

// stream is a cell's connection over which it is told what is desired. It has no goroutine and no buffers of its own:
// the connection was taken over from net/http, and the fan-out writes to it.
type stream struct {
	fanout *fanout
	entry  *cellEntry
	caller *api.Caller
	conn   transport.StreamConn

	mu         sync.Mutex // guards what follows, and is held while writing
	etag       string     // of what was written last
	generation uint64     // of the view that it is from
	lastWrite  time.Duration
	closed     bool
	closing    bool // to what is new: it is closed once the other side has read all
}

// serveStream answers with events, for as long as the cell listens: GET /v1/desired with Accept: text/event-stream.
func (d *desiredHandlers) serveStream(w http.ResponseWriter, r *http.Request, c *api.Caller, e *cellEntry) {
	if d.fanout.shutdown.Begun() {
		api.SetRetryAfter(w, 1+int(e.hash%8))
		api.WriteProblem(w, http.StatusServiceUnavailable, "This server is stopping: wait as long as Retry-After says.")
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
	if err != nil || buffered.Reader.Buffered() > 0 { // it sends more than it may
		if conn != nil {
			_ = conn.Close()
		}
		return
	}
	l := &stream{fanout: d.fanout, entry: e, caller: c, lastWrite: time.Since(d.fanout.clockStart)}
	l.conn = transport.NewStreamConn(conn, l.onDrained)
	l.start(known, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: private, no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\nX-Request-Id: "+
		id+"\r\nDate: "+time.Now().UTC().Format(http.TimeFormat)+"\r\n\r\n")
}

// start writes what comes first, at once, so that a proxy that holds answers back is found out (R33).
func (l *stream) start(known, head string) {
	f := l.fanout
	at := f.answers.latest()
	l.mu.Lock()
	if tag := at.tagFor(l.entry); tag != nil && api.MatchesETag(known, tag.etag) {
		l.etag, l.generation = tag.etag, at.generation
		head += ": as before\n\n"
	} else if body, etag, ok := at.encodeAnswer(l.entry); ok {
		l.etag, l.generation = etag, at.generation
		head += string(desiredEvent(etag, body))
	}
	err := l.writeLocked([]byte(head))
	l.mu.Unlock()
	f.metrics.Streams.Inc()
	if err != nil {
		l.close("gone")
		return
	}
	l.entry.addStream(l)
	f.subscribe(l.entry, l)
	l.catchUp() // with what changed before l was there to be told
	l.recheckAccess()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed { // perhaps before it was added
		f.unsubscribe(l.entry, l)
	}
}

// desiredEvent is an answer as streams tell it: the same JSON, with the ETag as its id. body ends with a newline, and has no other.
func desiredEvent(etag string, body []byte) []byte {
	b := make([]byte, 0, len(body)+len(etag)+32)
	b = append(append(b, "event: desired\nid: "...), etag...)
	b = append(append(b, "\ndata: "...), body...)
	return append(b, '\n')
}

// writeLocked writes under l.mu.
func (l *stream) writeLocked(b []byte) error {
	l.lastWrite = time.Since(l.fanout.clockStart)
	_, err := l.conn.Write(b)
	return err
}

func (l *stream) notify(at *snapshot) {
	if reason := l.writeChange(at); reason != "" {
		l.close(reason)
	}
}

// writeChange writes what changed. It gives a reason to close the stream, or none.
func (l *stream) writeChange(at *snapshot) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.closing || at.generation < l.generation || at.view == nil {
		return ""
	}
	tag, fresh := at.refreshEntry(l.entry)
	switch {
	case tag == nil:
		return "removed"
	case tag.etag == l.etag:
		return ""
	case l.conn.HasPending(): // it is told once it has read what came before
		return ""
	}
	etag, ok := tag.etag, true
	var body []byte
	if fresh != nil {
		var err error
		body, err = at.marshalDesired(l.entry, fresh)
		ok = err == nil
	} else {
		body, etag, ok = at.encodeAnswer(l.entry)
	}
	if !ok || etag == l.etag { // a newer view is on its way
		return ""
	}
	l.etag, l.generation = etag, at.generation
	l.fanout.metrics.Events.Inc()
	if err := l.writeLocked(desiredEvent(etag, body)); err != nil {
		return closeReason(err)
	}
	return ""
}

// onDrained is told by the connection that the other side has read all, or will not.
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

// catchUp tells what changed, unless it can't be known who may be told.
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
	due := !l.closed && !l.closing && now-l.lastWrite >= api.Heartbeat-heartbeatCheck-time.Duration(l.entry.hash)%heartbeatSpread && !l.conn.HasPending()
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

func (l *stream) recheckAccess() {
	if !l.fanout.auth.StillAllowsCell(l.caller) {
		l.close("shut out")
	}
}

func (l *stream) closeWithRetry(again time.Duration) {
	l.mu.Lock()
	if !l.closed && !l.closing {
		_ = l.writeLocked(api.RetryEvent(again)) // an error: it has gone already
		l.closing = true
	}
	later := l.conn.HasPending()
	l.mu.Unlock()
	if !later { // else once it has read all, or has not in time
		l.close("stopping")
	}
}

// close ends the stream, once.
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
	_ = l.conn.Close() // nobody is there to be told of an error
}

// checkPeer finds out whether the other side has ended: nobody reads from the connection, so that nobody was told.
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

// addStream adds a stream to the cell's, closes those that have ended, for a whole fleet may come back before its last
// streams are found dead, and the oldest if there are too many.
func (e *cellEntry) addStream(c closer) {
	e.mu.Lock()
	before := slices.Clone(e.streams)
	e.mu.Unlock()
	for _, o := range before {
		if l, ok := o.(*stream); ok {
			l.checkPeer()
		}
	}
	e.mu.Lock()
	e.streams = append(e.streams, c)
	var oldest closer
	if len(e.streams) > maxStreams {
		oldest = e.streams[0]
		e.streams = slices.Delete(e.streams, 0, 1)
	}
	e.mu.Unlock()
	if oldest != nil {
		oldest.close("replaced")
	}
}

func (e *cellEntry) removeStream(c closer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams = slices.DeleteFunc(e.streams, func(o closer) bool { return o == c })
}
