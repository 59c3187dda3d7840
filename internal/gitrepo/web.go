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
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/releases"
)

// Web says how an https:// repository is reached.
type Web struct {
	Username string
	Password string // or a token; never sent without TLS but to loopback
	CAFile   string // PEM certificates to trust instead of the system's
}

// httpHost is a repository behind git's smart HTTP protocol (gitprotocol-http).
type httpHost struct {
	base   *url.URL // without user and password
	auth   Web
	client *http.Client
	busy   atomic.Pointer[releases.BusyError] // nil: the host never asked to wait
}

func newHTTPHost(address string, o Web) (*httpHost, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("this is not a URL") // the cause would show the password
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
	return &httpHost{base: base, auth: o, client: &http.Client{Transport: t, CheckRedirect: sameHost}}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// sameHost follows a redirect only to a host that may get the password.
func sameHost(to *http.Request, via []*http.Request) error {
	if from := via[0].URL; to.URL.Host != from.Host || to.URL.Scheme != from.Scheme {
		return fmt.Errorf("redirected to %s://%s: give that address", to.URL.Scheme, to.URL.Host)
	}
	if len(via) > 3 {
		return errors.New("too many redirects")
	}
	return nil
}

func (w *httpHost) dial(ctx context.Context, service string) (conn, error) {
	target := *w.base
	target.Path += "/info/refs"
	target.RawQuery = "service=" + service
	response, err := w.roundTrip(ctx, service, http.MethodGet, target.String(), "", nil)
	if err != nil {
		return nil, err
	}
	if contentType := response.Header.Get("Content-Type"); contentType != "application/x-"+service+"-advertisement" {
		response.Body.Close()
		return nil, fmt.Errorf("%s answers with %.80q: it does not speak git's smart HTTP protocol",
			w.base, contentType)
	}
	base := strings.TrimSuffix(response.Request.URL.Path, "/info/refs") // the path after redirects
	target.Path, target.RawQuery = base+"/"+service, ""
	return &httpConn{ctx: ctx, host: w, service: service, url: target.String(), refs: response.Body}, nil
}

// roundTrip makes one request, unless the host asked to wait. A response other than 200 is an error.
func (w *httpHost) roundTrip(ctx context.Context, service, method, address, contentType string, body []byte) (
	*http.Response, error) {
	if busy := w.busy.Load(); busy != nil && time.Now().Before(busy.Until) {
		return nil, busy
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "git/sluice")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if w.auth.Password != "" {
		request.SetBasicAuth(w.auth.Username, w.auth.Password)
	}
	response, err := w.client.Do(request)
	var failed *url.Error
	if errors.As(err, &failed) { // after a redirect, its address may be one with a password
		return nil, fmt.Errorf("ask %s: %w", cleantext.Address(failed.URL), failed.Err)
	}
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	explanation, _ := io.ReadAll(io.LimitReader(response.Body, maxMessage)) // for people: part of it suffices
	text := fmt.Sprintf("%s answers %s", w.base, response.Status)
	if said := oneLine(string(explanation)); said != "" {
		text += ": " + said
	}
	if until := waitUntil(response, time.Now()); !until.IsZero() {
		busy := &releases.BusyError{Reason: text, Until: until}
		w.busy.Store(busy)
		return nil, busy
	}
	return nil, w.explainStatus(response.StatusCode, service, text)
}

// explainStatus returns the error that a status means for a request to a service.
func (w *httpHost) explainStatus(status int, service, text string) error {
	const set = "set SLUICE_GIT_TOKEN, and SLUICE_GIT_USERNAME if the host wants a user"
	switch {
	case status == http.StatusUnauthorized && w.auth.Password == "":
		return &releases.CredentialsError{Reason: text + ": it wants a token or password: " + set}
	case status == http.StatusUnauthorized:
		return &releases.CredentialsError{Reason: text + ": it does not take the token or password, which may have " +
			"expired: " + set}
	case service == receivePack && (status == http.StatusForbidden || status == http.StatusRequestEntityTooLarge):
		return &releases.RefusedError{Reason: text}
	case status == http.StatusForbidden:
		return &releases.CredentialsError{Reason: text + ": the token or password may not read this repository: " + set}
	case status == http.StatusNotFound:
		return errors.New(text + ": there is no such repository, or this token may not see it: it may have been renamed")
	}
	return errors.New(text)
}

const (
	busyWait    = 30 * time.Second // for a host that says 429 and not how long
	maxBusyWait = time.Hour        // no host makes the engine wait longer
)

// waitUntil returns until when the host asks to be left alone (RFC 9110, Retry-After; RFC 6585, 429); zero: it does
// not.
func waitUntil(response *http.Response, now time.Time) time.Time {
	after := strings.TrimSpace(response.Header.Get("Retry-After"))
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(after, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(after); err == nil {
		wait = at.Sub(now)
	}
	if wait <= 0 && response.StatusCode == http.StatusTooManyRequests {
		wait = busyWait
	}
	if wait <= 0 {
		return time.Time{}
	}
	return now.Add(min(wait, maxBusyWait))
}

type httpConn struct {
	ctx      context.Context // a conn is one exchange, which ends with ctx
	host     *httpHost
	service  string
	url      string
	refs     io.ReadCloser
	response io.ReadCloser
}

func (c *httpConn) advertisement() io.Reader { return c.refs }

func (c *httpConn) sendRequest(request []byte) (io.Reader, error) {
	response, err := c.host.roundTrip(c.ctx, c.service, http.MethodPost, c.url,
		"application/x-"+c.service+"-request", request)
	if err != nil {
		return nil, err
	}
	c.response = response.Body
	return response.Body, nil
}

func (c *httpConn) message() string { return "" }

func (c *httpConn) close() {
	_ = c.refs.Close()
	if c.response != nil {
		_ = c.response.Close()
	}
}
