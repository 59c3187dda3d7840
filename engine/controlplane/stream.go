package controlplane

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	heartbeat   = 15 * time.Second // a stream says something at least so often (R33)
	beatSpread  = 4 * time.Second  // heartbeats come up to so much earlier, so that not all come at once
	maxStreams  = 2                // of one cell: an agent that comes back may not know yet that its last stream is dead
	peerTimeout = 30 * time.Second // until a peer that acknowledges nothing is dead
)

// cutter is a stream of either kind.
type cutter interface{ cut(reason string) }

// wantsStream tells whether a request asks for events.
func wantsStream(r *http.Request) bool {
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

// stream is a cell's connection over which it is told what is desired. It has no goroutine and no buffers of its own:
// the connection was taken over from net/http, and the fan-out writes to it.
type stream struct {
	server *Server
	place  *place
	who    *caller
	conn   net.Conn
	wire   *wire // below conn; nil: somebody else listens, and writes may wait a little

	mu     sync.Mutex // guards what follows, and is held while writing
	etag   string     // of what was written last
	number uint64     // of the view that it is from
	last   time.Duration
	closed bool

	leaving bool // closed to what is new: it is cut once the other side has read all
}

// stream answers with events, for as long as the cell listens: GET /v1/desired with Accept: text/event-stream.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, p *place) {
	if s.stopping() {
		retryAfter(w, 1+int(p.hash%8))
		problem(w, http.StatusServiceUnavailable, "This server is stopping: wait as long as Retry-After says.")
		return
	}
	known := r.Header.Get("Last-Event-ID")
	if known == "" {
		known = r.Header.Get("If-None-Match")
	}
	if r.ProtoMajor > 1 {
		s.streamHere(w, r, p, known)
		return
	}
	id := w.Header().Get("X-Request-Id")
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if errors.Is(err, http.ErrNotSupported) {
		s.streamHere(w, r, p, known)
		return
	}
	noteStatus(w, http.StatusOK)
	if err != nil || buffered.Reader.Buffered() > 0 { // it sends more than it may
		if conn != nil {
			_ = conn.Close()
		}
		return
	}
	l := &stream{server: s, place: p, who: asking(w, r), conn: conn, last: time.Since(s.begun)}
	l.wired()
	l.begin(known, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: private, no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\nX-Request-Id: "+
		id+"\r\nDate: "+time.Now().UTC().Format(http.TimeFormat)+"\r\n\r\n")
}

// wired finds the wire below the connection.
func (l *stream) wired() {
	below := l.conn
	if t, ok := below.(*tls.Conn); ok {
		below = t.NetConn()
	} else if _, ok := below.(*wire); !ok {
		below = newWire(below)
		l.conn = below
	}
	socket := below
	if w, ok := below.(*wire); ok {
		l.wire, socket = w, w.Conn
		w.flow(l.emptied)
	}
	userTimeout(socket, peerTimeout)
}

// begin writes what comes first, at once, so that a proxy that holds answers back is found out (R33).
func (l *stream) begin(known, head string) {
	s := l.server
	at := s.board.now()
	l.mu.Lock()
	if said := at.answer(l.place); said != nil && matches(known, said.etag) {
		l.etag, l.number = said.etag, at.number
		head += ": as before\n\n"
	} else if body, etag, ok := at.encode(l.place); ok {
		l.etag, l.number = etag, at.number
		head += string(event(etag, body))
	}
	err := l.write([]byte(head))
	l.mu.Unlock()
	s.metrics.streams.Inc()
	if err != nil {
		l.cut("gone")
		return
	}
	l.place.adopt(l)
	s.fanout.add(l.place, l)
	l.catchUp() // with what changed before l was there to be told
	l.recheck()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed { // perhaps before it was added
		s.fanout.remove(l.place, l)
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
	if l.wire == nil {
		_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
	}
	l.last = time.Since(l.server.begun)
	_, err := l.conn.Write(b)
	return err
}

func (l *stream) tell(at *posted) {
	if reason := l.telling(at); reason != "" {
		l.cut(reason)
	}
}

// telling writes what changed. It gives a reason to cut the stream, or none.
func (l *stream) telling(at *posted) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.leaving || at.number < l.number || at.view == nil {
		return ""
	}
	said, fresh := at.hold(l.place)
	switch {
	case said == nil:
		return "removed"
	case said.etag == l.etag:
		return ""
	case l.wire != nil && l.wire.behind(): // it is told once it has read what came before
		return ""
	}
	etag, ok := said.etag, true
	var body []byte
	if fresh != nil {
		var err error
		body, err = at.marshal(l.place, fresh)
		ok = err == nil
	} else {
		body, etag, ok = at.encode(l.place)
	}
	if !ok || etag == l.etag { // a newer view is on its way
		return ""
	}
	l.etag, l.number = etag, at.number
	l.server.metrics.told.Inc()
	if err := l.write(event(etag, body)); err != nil {
		return reasonOf(err)
	}
	return ""
}

// emptied is told by the wire that the other side has read all, or will not.
func (l *stream) emptied(err error) {
	l.mu.Lock()
	leaving := l.leaving
	l.mu.Unlock()
	switch {
	case err != nil:
		l.cut(reasonOf(err))
	case leaving:
		l.cut("stopping")
	default:
		l.catchUp()
	}
}

// catchUp tells what changed, unless it can't be known who may be told.
func (l *stream) catchUp() {
	if l.server.fresh() == nil {
		l.tell(l.server.board.now())
	}
}

func reasonOf(err error) string {
	var t net.Error
	if errors.Is(err, errSlow) || errors.As(err, &t) && t.Timeout() {
		return "slow"
	}
	return "gone"
}

func (l *stream) beat(now time.Duration) {
	l.mu.Lock()
	due := !l.closed && !l.leaving && now-l.last >= heartbeat-beatEvery-time.Duration(l.place.hash)%beatSpread && (l.wire == nil || !l.wire.behind())
	var err error
	if due {
		err = l.write([]byte(":\n\n"))
	}
	l.mu.Unlock()
	switch {
	case err != nil:
		l.cut(reasonOf(err))
	case due:
		l.look()
	}
}

// listen reads what the other side sent though it has nothing to say: the end of TLS, most likely.
func (l *stream) listen() {
	_ = l.conn.SetReadDeadline(time.Now().Add(beatEvery))
	n, err := l.conn.Read(make([]byte, 1))
	var t net.Error
	if n > 0 || err != nil && !(errors.As(err, &t) && t.Timeout()) {
		l.cut("gone")
		return
	}
	_ = l.wire.setRead(0) // an error: it is closed, and the next heartbeat finds it
}

func (l *stream) recheck() {
	if !l.server.still(l.who) {
		l.cut("shut out")
	}
}

func (l *stream) letGo(again time.Duration) {
	l.mu.Lock()
	if !l.closed && !l.leaving {
		_ = l.write(comeBack(again)) // an error: it has gone already
		l.leaving = true
	}
	later := l.wire != nil && l.wire.behind()
	l.mu.Unlock()
	if !later { // else once it has read all, or has not in time
		l.cut("stopping")
	}
}

// cut ends the stream, once.
func (l *stream) cut(reason string) {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if !first {
		return
	}
	l.place.disown(l)
	l.server.fanout.remove(l.place, l)
	l.server.metrics.cut(reason)
	_ = l.conn.Close() // nobody is there to be told of an error
}

// look finds out whether the other side has ended: nobody reads from the connection, so that nobody was told.
func (l *stream) look() {
	if l.wire == nil {
		return
	}
	if sent, ended := peek(l.wire.raw); ended {
		l.cut("gone")
	} else if sent {
		go l.listen()
	}
}

// adopt adds a stream to the cell's, cuts those that have ended, for a whole fleet may come back before its last
// streams are found dead, and the oldest if there are too many.
func (p *place) adopt(c cutter) {
	p.mu.Lock()
	before := slices.Clone(p.streams)
	p.mu.Unlock()
	for _, o := range before {
		if l, ok := o.(*stream); ok {
			l.look()
		}
	}
	p.mu.Lock()
	p.streams = append(p.streams, c)
	var oldest cutter
	if len(p.streams) > maxStreams {
		oldest = p.streams[0]
		p.streams = slices.Delete(p.streams, 0, 1)
	}
	p.mu.Unlock()
	if oldest != nil {
		oldest.cut("replaced")
	}
}

func (p *place) disown(c cutter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = slices.DeleteFunc(p.streams, func(o cutter) bool { return o == c })
}
