package outbox

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
)

// maxSMTPBytes is how much a mail server may say in one conversation.
const maxSMTPBytes = 1 << 20

// mailbox gets what is due as one e-mail, over a connection of its own.
type mailbox struct {
	reach   reach.List
	timeout time.Duration
	from    string
	to      string
	secret  func() (string, error) // the server's URL
}

func (m mailbox) address() string { return m.to }

func (m mailbox) deliver(ctx context.Context, messages []plan.Message) (int, attemptResult) {
	d, covered, err := gather(messages)
	if err != nil {
		return covered, attemptResult{messageOnly: true, why: "the notice in the store is damaged", err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	server, err := m.readServer()
	if err != nil {
		return covered, failed("gets no messages: "+err.Error(), err)
	}
	letter, err := m.write(d, messages[0])
	if err != nil {
		return covered, attemptResult{messageOnly: true, why: "the message can't be written: " + err.Error(), err: err}
	}
	client, err := server.newClient(ctx, m.timeout, m.reach)
	if err == nil {
		err = client.DialAndSendWithContext(ctx, letter)
	}
	if err == nil || letter.IsDelivered() { // accepted, whatever came afterwards
		return covered, attemptResult{ok: true}
	}
	return covered, judgeMailError(errors.Join(err, ctx.Err()), m.timeout)
}

// write returns the message. Mail programs show the messages of one thread together.
func (m mailbox) write(d notices.Digest, first plan.Message) (*mail.Msg, error) {
	letter := mail.NewMsg()
	if err := errors.Join(letter.From(m.from), letter.To(m.to)); err != nil {
		return nil, errors.New("from or to is no address")
	}
	letter.Subject(d.Subject)
	letter.SetDateWithValue(first.Posted)
	letter.SetMessageIDWithValue(hashID(first.Event.ID + "\x00" + m.to))
	letter.SetGenHeader("References", "<"+hashID("thread\x00"+d.Thread)+">")
	letter.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no holiday notes, please
	letter.SetBodyString(mail.TypeTextPlain, d.PlainText())
	return letter, nil
}

func hashID(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16]) + "@sluice.invalid"
}

// mailServer is a mail server, as the file of the secret names it.
type mailServer struct {
	host, user, password string
	port                 int
	implicitTLS, local   bool
}

var errMailServer = errors.New("the file of its secret must hold smtps://USER:PASSWORD@HOST:PORT, or smtp://… for " +
	"STARTTLS")

// readServer reads the secret. Its errors do not repeat it.
func (m mailbox) readServer() (s mailServer, err error) {
	text, err := m.secret()
	if err != nil {
		return s, err
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Path != "" && u.Path != "/" {
		return s, errMailServer
	}
	s = mailServer{host: u.Hostname(), port: 587, implicitTLS: u.Scheme == "smtps", user: u.User.Username()}
	s.password, _ = u.User.Password()
	if s.implicitTLS {
		s.port = 465
	}
	if u.Port() != "" {
		if s.port, err = strconv.Atoi(u.Port()); err != nil {
			return s, errMailServer
		}
	}
	addr, err := netip.ParseAddr(s.host)
	s.local = s.host == "localhost" || err == nil && addr.IsLoopback()
	return s, nil
}

// newClient returns a client for one conversation, which ends with ctx. Without TLS it speaks to this machine only.
func (s mailServer) newClient(ctx context.Context, timeout time.Duration, list reach.List) (*mail.Client, error) {
	options := []mail.Option{mail.WithPort(s.port), mail.WithTimeout(timeout), mail.WithTLSPolicy(mail.TLSMandatory),
		mail.WithDialContextFunc(func(dialCtx context.Context, network, address string) (net.Conn, error) {
			dialed, err := list.DialContext(dialCtx, network, address)
			if err != nil {
				return nil, err
			}
			conn := &boundedConn{Conn: dialed, left: maxSMTPBytes}
			context.AfterFunc(ctx, func() { _ = dialed.Close() }) // whatever deadline the client sets
			if !s.implicitTLS {
				return conn, nil
			}
			secure := tls.Client(conn, s.tlsConfig())
			if err := secure.HandshakeContext(dialCtx); err != nil {
				_ = conn.Close() // the handshake's error says more
				return nil, err
			}
			return secure, nil
		}), mail.WithTLSConfig(s.tlsConfig())}
	if s.implicitTLS || s.local {
		options = append(options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	}
	if s.user != "" {
		options = append(options, mail.WithUsername(s.user), mail.WithPassword(s.password),
			mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover))
	}
	return mail.NewClient(s.host, options...)
}

func (s mailServer) tlsConfig() *tls.Config {
	return &tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12}
}

// boundedConn is a connection that takes in so many bytes.
type boundedConn struct {
	net.Conn
	left int
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("the mail server says more than %d bytes: %w", maxSMTPBytes, io.ErrUnexpectedEOF)
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// judgeMailError says what a failed conversation means. The server's words are for the log.
func judgeMailError(err error, timeout time.Duration) attemptResult {
	refused := new(mail.SendError)
	if errors.As(err, &refused) && refused.ErrorCode() > 0 {
		why := fmt.Sprintf("the mail server answered %d", refused.ErrorCode())
		if refused.Reason == mail.ErrSMTPRcptTo {
			why += " to the recipient's address"
		}
		return attemptResult{messageOnly: !refused.IsTemp(), why: why, err: err,
			final: !refused.IsTemp() && refused.Reason == mail.ErrSMTPRcptTo} // RFC 5321: such an address stays unknown
	}
	return failed(explainError(err, timeout), err)
}
