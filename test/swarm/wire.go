package swarm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
)

// Plane is a control plane as cells find it.
type Plane struct {
	Addresses []string // HOST:PORT of its replicas; a cell goes on to the next when one fails
	Pins      []string // of its keys
}

// dialWithin bounds connecting, the handshake included. Ten thousand at once take a while.
const dialWithin = 60 * time.Second

// Dialer connects members to the control plane, each with its own key and session ticket.
type Dialer struct {
	plane   Plane
	configs []*tls.Config
	sources []net.IP // on loopback: one address alone has too few ports for tens of thousands
	dialed  atomic.Int64
	atOnce  chan struct{} // one place for each that is being connected; nil: no bound
}

// NewDialer makes the members' certificates.
func NewDialer(plane Plane, members []Member) (*Dialer, error) {
	made, err := certificates(members)
	if err != nil {
		return nil, err
	}
	d := &Dialer{plane: plane, configs: make([]*tls.Config, len(members))}
	for i := range made {
		d.configs[i] = &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: made[i : i+1 : i+1], ClientSessionCache: new(ticket),
			InsecureSkipVerify: true, //nolint:gosec // the pins say who it is
			VerifyConnection:   d.verify,
		}
	}
	if host, _, err := net.SplitHostPort(plane.Addresses[0]); err == nil && host == "127.0.0.1" {
		for i := range 4 {
			d.sources = append(d.sources, net.IPv4(127, 0, 0, byte(1+i)))
		}
	}
	return d, nil
}

func (d *Dialer) verify(s tls.ConnectionState) error {
	return identity.Match(d.plane.Pins, s.PeerCertificates, time.Now())
}

// Forget drops all session tickets: the next handshakes are full ones.
func (d *Dialer) Forget() {
	for _, c := range d.configs {
		c.ClientSessionCache = new(ticket)
	}
}

// Dial connects member i to a replica, counted round, and shakes hands.
func (d *Dialer) Dial(ctx context.Context, i, replica int) (*Link, error) {
	if d.atOnce != nil {
		select {
		case d.atOnce <- struct{}{}:
			defer func() { <-d.atOnce }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n := d.dialed.Add(1)
	plain := net.Dialer{Timeout: dialWithin, KeepAlive: -1}
	if len(d.sources) > 0 {
		plain.LocalAddr = &net.TCPAddr{IP: d.sources[n%int64(len(d.sources))]}
	}
	address := d.plane.Addresses[replica%len(d.plane.Addresses)]
	conn, err := plain.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, d.configs[i])
	_ = secure.SetDeadline(time.Now().Add(dialWithin))
	if err := secure.Handshake(); err != nil {
		return nil, errors.Join(fmt.Errorf("shake hands with %s: %w", address, err), conn.Close())
	}
	_ = secure.SetDeadline(time.Time{})
	return &Link{conn: secure, host: address, in: bufio.NewReaderSize(secure, 1<<10)}, nil
}

// ticket is a session cache for one cell, of one ticket.
type ticket struct {
	newest atomic.Pointer[tls.ClientSessionState]
}

// Get gives the ticket, once: each is used a single time.
func (t *ticket) Get(string) (*tls.ClientSessionState, bool) {
	s := t.newest.Swap(nil)
	return s, s != nil
}

// Put keeps the newest ticket.
func (t *ticket) Put(_ string, s *tls.ClientSessionState) { t.newest.Store(s) }

// Link is one connection of a cell. One goroutine uses it; Close may come from any.
type Link struct {
	conn *tls.Conn
	host string
	in   *bufio.Reader
	out  []byte
}

// Close ends the connection at once.
func (l *Link) Close() { _ = l.conn.NetConn().Close() }

// Answer is the head of an HTTP answer.
type Answer struct {
	Status  int
	ETag    string
	Next    time.Duration // Sluice-Next-Poll
	After   time.Duration // Retry-After; zero: none
	Close   bool          // the server ends the connection behind it
	length  int64         // of the body; -1: until the connection ends
	chunked bool
}

// Ask sends a request and reads its answer, the body included, within a time. header is lines, each ended by CR LF.
func (l *Link) Ask(within time.Duration, method, path, header string, body []byte) (Answer, []byte, error) {
	_ = l.conn.SetDeadline(time.Now().Add(within))
	if err := l.send(method, path, header, body); err != nil {
		return Answer{}, nil, err
	}
	a, err := l.answer()
	if err != nil {
		return a, nil, err
	}
	if a.length == 0 {
		return a, nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(l.body(a), maxBody+1))
	if err == nil && len(text) > maxBody {
		err = fmt.Errorf("the answer has more than %d bytes", maxBody)
	}
	for a.chunked && err == nil { // the trailer, up to the empty line
		var line []byte
		if line, err = l.line(); len(line) == 0 {
			break
		}
	}
	return a, text, err
}

const maxBody = 64 << 20

func (l *Link) send(method, path, header string, body []byte) error {
	out := append(append(append(l.out[:0], method...), ' '), path...)
	out = append(append(append(out, " HTTP/1.1\r\nHost: "...), l.host...), "\r\n"...)
	out = append(out, header...)
	if body != nil {
		out = append(out, "Content-Type: application/json\r\nContent-Length: "...)
		out = append(strconv.AppendInt(out, int64(len(body)), 10), "\r\n"...)
	}
	out = append(append(out, "\r\n"...), body...)
	if _, err := l.conn.Write(out); err != nil {
		return err
	}
	if cap(out) <= 4<<10 {
		l.out = out
	}
	return nil
}

// answer reads the status line and the header.
func (l *Link) answer() (a Answer, err error) {
	line, err := l.line()
	if err != nil {
		return a, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return a, fmt.Errorf("%.40q is no HTTP", line)
	}
	a.Status, err = strconv.Atoi(string(line[9:12]))
	a.length = -1
	for err == nil {
		if line, err = l.line(); err != nil || len(line) == 0 {
			break
		}
		a.field(line)
	}
	if a.Status == 304 || a.Status == 204 {
		a.length = 0
	}
	return a, err
}

// field reads a line of the header. Those that are not of interest cost a comparison of their length.
func (a *Answer) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimSpace(value)
	is := func(n string) bool { return len(name) == len(n) && bytes.EqualFold(name, []byte(n)) }
	switch {
	case is("ETag"):
		a.ETag = string(value)
	case is("Content-Length"):
		a.length, _ = strconv.ParseInt(string(value), 10, 64)
	case is("Transfer-Encoding"):
		a.chunked = true
	case is("Connection"):
		a.Close = bytes.EqualFold(value, []byte("close"))
	case is("Retry-After"):
		a.After = seconds(value)
	case is("Sluice-Next-Poll"):
		a.Next = seconds(value)
	}
}

func seconds(text []byte) time.Duration {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}

// line gives the next line, without its end; it is good until the next read.
func (l *Link) line() ([]byte, error) {
	line, err := l.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (l *Link) body(a Answer) io.Reader {
	switch {
	case a.chunked:
		return httputil.NewChunkedReader(l.in)
	case a.length >= 0:
		return io.LimitReader(l.in, a.length)
	default:
		return l.in
	}
}

// Byte reads one byte: what a bare server says when a handshake is through on its side too.
func (l *Link) Byte(within time.Duration) error {
	_ = l.conn.SetReadDeadline(time.Now().Add(within))
	_, err := l.in.ReadByte()
	return err
}
