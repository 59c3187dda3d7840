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
	beatSpread = 4 * time.Second // heartbeats come up to so much earlier, so that not all come at once
	maxStreams = 2               // of one cell: an agent that comes back may not know yet that its last stream is dead
)

// closer is a stream of either kind.
type closer interface{ close(reason string) }

// stream is a cell's connection over which it is told what is desired. It has no goroutine and no buffers of its own:
// the connection was taken over from net/http, and the fan-out writes to it.
type stream struct {
	fanout *fanout
	entry  *cellEntry
	who    *api.Caller
	conn   transport.PushConn

	mu      sync.Mutex // guards what follows, and is held while writing
	etag    string     // of what was written last
	number  uint64     // of the view that it is from
	last    time.Duration
	closed  bool
	closing bool // to what is new: it is closed once the other side has read all
}

// stream answers with events, for as long as the cell listens: GET /v1/desired with Accept: text/event-stream.
func (d *desired) stream(w http.ResponseWriter, r *http.Request, c *api.Caller, e *cellEntry) {
	if d.fanout.stopping.Now() {
		api.RetryAfter(w, 1+int(e.hash%8))
		api.Problem(w, http.StatusServiceUnavailable, "This server is stopping: wait as long as Retry-After says.")
		return
	}
	known := r.Header.Get("Last-Event-ID")
	if known == "" {
		known = r.Header.Get("If-None-Match")
	}
	if r.ProtoMajor > 1 {
		d.streamHTTP2(w, r, c, e, known)
		return
	}
	id := w.Header().Get("X-Request-Id")
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if errors.Is(err, http.ErrNotSupported) {
		d.streamHTTP2(w, r, c, e, known)
		return
	}
	api.NoteStatus(w, http.StatusOK)
	if err != nil || buffered.Reader.Buffered() > 0 { // it sends more than it may
		if conn != nil {
			_ = conn.Close()
		}
		return
	}
	l := &stream{fanout: d.fanout, entry: e, who: c, last: time.Since(d.fanout.begun)}
	l.conn = transport.Push(conn, l.drained)
	l.begin(known, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: private, no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\nX-Request-Id: "+
		id+"\r\nDate: "+time.Now().UTC().Format(http.TimeFormat)+"\r\n\r\n")
}

// begin writes what comes first, at once, so that a proxy that holds answers back is found out (R33).
func (l *stream) begin(known, head string) {
	f := l.fanout
	at := f.answers.latest()
	l.mu.Lock()
	if tag := at.tagOf(l.entry); tag != nil && api.Matches(known, tag.etag) {
		l.etag, l.number = tag.etag, at.number
		head += ": as before\n\n"
	} else if body, etag, ok := at.encode(l.entry); ok {
		l.etag, l.number = etag, at.number
		head += string(event(etag, body))
	}
	err := l.write([]byte(head))
	l.mu.Unlock()
	f.metrics.Streams.Inc()
	if err != nil {
		l.close("gone")
		return
	}
	l.entry.addStream(l)
	f.add(l.entry, l)
	l.catchUp() // with what changed before l was there to be told
	l.recheck()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed { // perhaps before it was added
		f.remove(l.entry, l)
	}
}

// event is an answer as streams tell it: the same JSON, with the ETag as its id. body ends with a newline, and has no other.
func event(etag string, body []byte) []byte {
	b := make([]byte, 0, len(body)+len(etag)+32)
	b = append(append(b, "event: desired\nid: "...), etag...)
	b = append(append(b, "\ndata: "...), body...)
	return append(b, '\n')
}

// write writes under l.mu.
func (l *stream) write(b []byte) error {
	l.last = time.Since(l.fanout.begun)
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
	if l.closed || l.closing || at.number < l.number || at.view == nil {
		return ""
	}
	tag, fresh := at.refresh(l.entry)
	switch {
	case tag == nil:
		return "removed"
	case tag.etag == l.etag:
		return ""
	case l.conn.Behind(): // it is told once it has read what came before
		return ""
	}
	etag, ok := tag.etag, true
	var body []byte
	if fresh != nil {
		var err error
		body, err = at.marshal(l.entry, fresh)
		ok = err == nil
	} else {
		body, etag, ok = at.encode(l.entry)
	}
	if !ok || etag == l.etag { // a newer view is on its way
		return ""
	}
	l.etag, l.number = etag, at.number
	l.fanout.metrics.Events.Inc()
	if err := l.write(event(etag, body)); err != nil {
		return closeReason(err)
	}
	return ""
}

// drained is told by the connection that the other side has read all, or will not.
func (l *stream) drained(err error) {
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
	if l.fanout.auth.Fresh() == nil {
		l.notify(l.fanout.answers.latest())
	}
}

func closeReason(err error) string {
	if transport.IsSlow(err) {
		return "slow"
	}
	return "gone"
}

func (l *stream) beat(now time.Duration) {
	l.mu.Lock()
	due := !l.closed && !l.closing && now-l.last >= api.Heartbeat-beatEvery-time.Duration(l.entry.hash)%beatSpread && !l.conn.Behind()
	var err error
	if due {
		err = l.write([]byte(":\n\n"))
	}
	l.mu.Unlock()
	switch {
	case err != nil:
		l.close(closeReason(err))
	case due:
		l.checkPeer()
	}
}

func (l *stream) recheck() {
	if !l.fanout.auth.Still(l.who) {
		l.close("shut out")
	}
}

func (l *stream) closeAfter(again time.Duration) {
	l.mu.Lock()
	if !l.closed && !l.closing {
		_ = l.write(api.ComeBack(again)) // an error: it has gone already
		l.closing = true
	}
	later := l.conn.Behind()
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
	l.fanout.remove(l.entry, l)
	l.fanout.metrics.StreamEnded(reason)
	_ = l.conn.Close() // nobody is there to be told of an error
}

// checkPeer finds out whether the other side has ended: nobody reads from the connection, so that nobody was told.
func (l *stream) checkPeer() {
	sent, ended := l.conn.Peek()
	switch {
	case ended:
		l.close("gone")
	case sent:
		go func() {
			if l.conn.Ends(beatEvery) {
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
