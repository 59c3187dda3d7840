package gitrepo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/releases"
)

// Web says how an https:// repository is reached.
type Web struct {
	Username string
	Password string // or a token; never sent without TLS but to loopback
	CAFile   string // PEM certificates to trust instead of the system's
}

// web is a repository behind git's smart HTTP protocol (gitprotocol-http).
type web struct {
	base   *url.URL // without user and password
	auth   Web
	client *http.Client
}

func newWeb(address string, o Web) (*web, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("this is not a URL") // the cause would show a password
	}
	if base.User != nil {
		o.Username = base.User.Username()
		if p, ok := base.User.Password(); ok {
			o.Password = p
		}
		base.User = nil
	}
	if o.Password != "" && base.Scheme != "https" && !isLoopback(base.Hostname()) {
		return nil, errors.New("a password is not sent over http://: use https://")
	}
	base.RawQuery, base.Fragment = "", ""
	base.Path = strings.TrimSuffix(base.Path, "/")
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	t.ResponseHeaderTimeout = 2 * time.Minute
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", o.CAFile)
		}
	}
	return &web{base: base, auth: o, client: &http.Client{Transport: t, CheckRedirect: sameHost}}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// sameHost follows a redirect only where the password may go.
func sameHost(to *http.Request, via []*http.Request) error {
	if from := via[0].URL; to.URL.Host != from.Host || to.URL.Scheme != from.Scheme {
		return fmt.Errorf("redirected to %s://%s: give that address", to.URL.Scheme, to.URL.Host)
	}
	if len(via) > 3 {
		return errors.New("too many redirects")
	}
	return nil
}

func (w *web) dial(ctx context.Context, service string) (conn, error) {
	at := *w.base
	at.Path += "/info/refs"
	at.RawQuery = "service=" + service
	answer, err := w.do(ctx, http.MethodGet, at.String(), "", nil)
	if err != nil {
		return nil, err
	}
	if kind := answer.Header.Get("Content-Type"); kind != "application/x-"+service+"-advertisement" {
		answer.Body.Close()
		return nil, fmt.Errorf("%s answers with %.80q: it does not speak git's smart HTTP protocol", w.base, kind)
	}
	base := strings.TrimSuffix(answer.Request.URL.Path, "/info/refs") // where a redirect led
	at.Path, at.RawQuery = base+"/"+service, ""
	return &webConn{ctx: ctx, web: w, service: service, at: at.String(), refs: answer.Body}, nil
}

// do makes one request. An answer that is not 200 is an error: a *releases.RefusedError if it means no.
func (w *web) do(ctx context.Context, method, at, kind string, body []byte) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Header.Set("User-Agent", "git/sluice")
	if kind != "" {
		q.Header.Set("Content-Type", kind)
	}
	if w.auth.Password != "" {
		q.SetBasicAuth(w.auth.Username, w.auth.Password)
	}
	answer, err := w.client.Do(q)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, maxWords)) // for people: what came, came
	text := fmt.Sprintf("%s answers %s: %s", w.base, answer.Status, oneLine(string(said)))
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge:
		return nil, &releases.RefusedError{Reason: text}
	}
	return nil, errors.New(text)
}

type webConn struct {
	ctx     context.Context //nolint:containedctx // a conn is one exchange, as long as its ctx
	web     *web
	service string
	at      string
	refs    io.ReadCloser
	answer  io.ReadCloser
}

func (c *webConn) advertisement() io.Reader { return c.refs }

func (c *webConn) ask(request []byte) (io.Reader, error) {
	answer, err := c.web.do(c.ctx, http.MethodPost, c.at, "application/x-"+c.service+"-request", request)
	if err != nil {
		return nil, err
	}
	c.answer = answer.Body
	return answer.Body, nil
}

func (c *webConn) words() string { return "" }

func (c *webConn) close() {
	_ = c.refs.Close()
	if c.answer != nil {
		_ = c.answer.Close()
	}
}
