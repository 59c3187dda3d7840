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

// ControlPlane is how cells find and recognise a control plane.
type ControlPlane struct {
	Addresses []string // HOST:PORT of replicas; a cell tries the next when one fails
	Pins      []string // of the replicas' keys
}

// dialTimeout bounds connecting, the handshake included. Ten thousand connections at once take a while.
const dialTimeout = 60 * time.Second

// Dialer connects members to the control plane, each with its own key and session ticket.
type Dialer struct {
	plane   ControlPlane
	configs []*tls.Config
	sources []net.IP // local addresses on loopback: one has too few ports for tens of thousands
	dialed  atomic.Int64
	slots   chan struct{} // one for each connection being made; nil: unlimited
}

func NewDialer(plane ControlPlane, members []Member) (*Dialer, error) {
	made, err := makeCertificates(members)
	if err != nil {
		return nil, err
	}
	d := &Dialer{plane: plane, configs: make([]*tls.Config, len(members))}
	for i := range made {
		d.configs[i] = &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: made[i : i+1 : i+1], ClientSessionCache: new(ticketCache),
			InsecureSkipVerify: true, // VerifyConnection checks the pins
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
	return identity.MatchPins(d.plane.Pins, s.PeerCertificates, time.Now())
}

// StrangerConfig returns member i's TLS configuration with a protocol, and without looking at the control plane's key.
func (d *Dialer) StrangerConfig(i int, protocol string) *tls.Config {
	c := d.configs[i].Clone()
	c.NextProtos, c.VerifyConnection, c.ClientSessionCache = []string{protocol}, nil, nil
	return c
}

// ForgetSessions drops all session tickets, so that the next handshakes are full ones.
func (d *Dialer) ForgetSessions() {
	for _, c := range d.configs {
		c.ClientSessionCache = new(ticketCache)
	}
}

// Dial connects member i to a replica, modulo their number, and completes the handshake.
func (d *Dialer) Dial(ctx context.Context, i, replica int) (*Conn, error) {
	if d.slots != nil {
		select {
		case d.slots <- struct{}{}:
			defer func() { <-d.slots }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n := d.dialed.Add(1)
	plain := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	if len(d.sources) > 0 {
		plain.LocalAddr = &net.TCPAddr{IP: d.sources[n%int64(len(d.sources))]}
	}
	address := d.plane.Addresses[replica%len(d.plane.Addresses)]
	conn, err := plain.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, d.configs[i])
	_ = secure.SetDeadline(time.Now().Add(dialTimeout))
	if err := secure.Handshake(); err != nil {
		return nil, errors.Join(fmt.Errorf("shake hands with %s: %w", address, err), conn.Close())
	}
	_ = secure.SetDeadline(time.Time{})
	return &Conn{conn: secure, host: address, reader: bufio.NewReaderSize(secure, 1<<10)}, nil
}

// ticketCache is one cell's session cache. It holds one ticket.
type ticketCache struct {
	newest atomic.Pointer[tls.ClientSessionState]
}

// Get returns the ticket and removes it: a ticket is used once.
func (t *ticketCache) Get(string) (*tls.ClientSessionState, bool) {
	s := t.newest.Swap(nil)
	return s, s != nil
}

// Put stores the newest ticket.
func (t *ticketCache) Put(_ string, s *tls.ClientSessionState) { t.newest.Store(s) }

// Conn is one connection of a cell. One goroutine uses it; Close may be called from any.
type Conn struct {
	conn   *tls.Conn
	host   string
	reader *bufio.Reader
	buffer []byte
}

// Close ends the connection at once.
func (l *Conn) Close() { _ = l.conn.NetConn().Close() }

// ResponseHead is the status and header of an HTTP response.
type ResponseHead struct {
	Status     int
	ETag       string
	NextPoll   time.Duration // Sluice-Next-Poll
	RetryAfter time.Duration // Retry-After; zero: none
	Close      bool          // the server closes the connection after the body
	length     int64         // of the body; -1: until the connection ends
	chunked    bool
}

// RoundTrip sends a request and reads the whole response within a time. header consists of lines that end in CR LF.
func (l *Conn) RoundTrip(within time.Duration, method, path, header string, body []byte) (ResponseHead, []byte, error) {
	_ = l.conn.SetDeadline(time.Now().Add(within))
	if err := l.writeRequest(method, path, header, body); err != nil {
		return ResponseHead{}, nil, err
	}
	a, err := l.readHead()
	if err != nil {
		return a, nil, err
	}
	if a.length == 0 {
		return a, nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(l.bodyReader(a), maxBodySize+1))
	if err == nil && len(text) > maxBodySize {
		err = fmt.Errorf("the answer has more than %d bytes", maxBodySize)
	}
	for a.chunked && err == nil { // the trailer, up to the empty line
		var line []byte
		if line, err = l.readLine(); len(line) == 0 {
			break
		}
	}
	return a, text, err
}

const maxBodySize = 64 << 20

func (l *Conn) writeRequest(method, path, header string, body []byte) error {
	out := append(append(append(l.buffer[:0], method...), ' '), path...)
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
		l.buffer = out
	}
	return nil
}

// readHead reads the status line and the header.
func (l *Conn) readHead() (a ResponseHead, err error) {
	line, err := l.readLine()
	if err != nil {
		return a, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return a, fmt.Errorf("%.40q is no HTTP", line)
	}
	a.Status, err = strconv.Atoi(string(line[9:12]))
	a.length = -1
	for err == nil {
		if line, err = l.readLine(); err != nil || len(line) == 0 {
			break
		}
		a.parseHeader(line)
	}
	if a.Status == 304 || a.Status == 204 {
		a.length = 0
	}
	return a, err
}

func (a *ResponseHead) parseHeader(line []byte) {
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
		a.RetryAfter = parseSeconds(value)
	case is("Sluice-Next-Poll"):
		a.NextPoll = parseSeconds(value)
	}
}

func parseSeconds(text []byte) time.Duration {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}

// readLine returns the next line without its end. The bytes are valid until the next read.
func (l *Conn) readLine() ([]byte, error) {
	line, err := l.reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (l *Conn) bodyReader(a ResponseHead) io.Reader {
	switch {
	case a.chunked:
		return httputil.NewChunkedReader(l.reader)
	case a.length >= 0:
		return io.LimitReader(l.reader, a.length)
	default:
		return l.reader
	}
}

// AwaitByte reads one byte, which a bare server sends when it has completed the handshake.
func (l *Conn) AwaitByte(within time.Duration) error {
	_ = l.conn.SetReadDeadline(time.Now().Add(within))
	_, err := l.reader.ReadByte()
	return err
}
