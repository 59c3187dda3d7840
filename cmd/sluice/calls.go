package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
)

const (
	askTimeout = 30 * time.Second
	maxAnswer  = 64 << 20
)

// refusal is the control plane's no.
type refusal struct {
	server string
	status int
	said   string
}

func (r *refusal) Error() string { return r.server + " says: " + r.said }

// ask gets a resource of the control plane.
func (a *app) ask(ctx context.Context, path string, into any) error {
	return a.call(ctx, http.MethodGet, path, nil, into)
}

// call asks the control plane, with the token in $SLUICE_TOKEN if there is one. in and into are JSON, and may be nil.
func (a *app) call(ctx context.Context, method, path string, in, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	base, transport := a.transport()
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+path, body)
	if err != nil {
		return fail(fmt.Errorf("ask %s: it is no address: %w", a.server, cause(err)), serverForms)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token := a.getenv("SLUICE_TOKEN"); token != "" {
		if host := req.URL.Hostname(); req.URL.Scheme == "http" && !strings.HasPrefix(a.server, "unix://") && host != "localhost" && !net.ParseIP(host).IsLoopback() {
			return fail(fmt.Errorf("ask %s: the token in SLUICE_TOKEN would go over the network in the plain", a.server), "--server https://%s", req.URL.Host)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// A token that is sent to where an answer points to would be somebody else's.
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return a.unreached(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask %s: %w", a.server, err)
	}
	if resp.StatusCode/100 != 2 {
		return a.refused(resp, answer)
	}
	if into == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fail(fmt.Errorf("ask %s: its answer is not understood: %w", a.server, err), "is it a sluice control plane?")
	}
	return nil
}

// nobodyThere is what to do where no control plane answers.
const nobodyThere = "does sluice serve run there? Without --server, --repo and --data are read"

const serverForms = "--server is http://HOST:PORT, https://HOST:PORT or unix:///PATH"

// cause is what went wrong, without the URL that was asked for, which says nothing to people.
func cause(err error) error {
	if at := new(url.Error); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// unreached says that no answer came, and what that may come from.
func (a *app) unreached(err error) error {
	err = cause(err)
	said := fmt.Errorf("ask %s: %w", a.server, err)
	unknown := new(tls.CertificateVerificationError)
	proxy := new(net.OpError)
	switch {
	case errors.Is(err, identity.ErrPin):
		return fail(said, "SLUICE_SERVER_PIN takes the keys that sluice serve prints when it starts, both of them: \"sha256:… sha256:…\"")
	case errors.As(err, &unknown):
		return fail(said, "for the certificate that serve made for itself set SLUICE_SERVER_PIN to the keys that serve prints when it starts; for one of your own authority set SSL_CERT_FILE")
	case strings.Contains(err.Error(), "certificate required"):
		return fail(said, "that is where cells come in (--cells): name an address that serve was given as --listen")
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fail(said, "that address speaks http://: only loopback does, and takes no https://")
	case errors.Is(err, io.EOF) && strings.HasPrefix(a.server, "http://"):
		return fail(said, "that address may want https:// in place of http://")
	case strings.Contains(err.Error(), "unsupported protocol scheme"):
		return fail(said, serverForms)
	case errors.As(err, &proxy) && proxy.Op == "proxyconnect":
		return fail(said, "HTTPS_PROXY or HTTP_PROXY names a proxy that can't be reached; NO_PROXY names the hosts that need none")
	case errors.Is(err, context.DeadlineExceeded):
		return fail(said, "no answer in %s: is the control plane overloaded, or something between it and here that drops packets?", askTimeout)
	}
	return fail(said, nobodyThere)
}

func (a *app) refused(resp *http.Response, answer []byte) error {
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
	}
	plain := json.Unmarshal(answer, &problem) != nil || problem.Title == ""
	err := &refusal{server: a.server, status: resp.StatusCode, said: strings.TrimSuffix(strings.TrimSpace(cmp.Or(problem.Detail, problem.Title, resp.Status)), ".")}
	switch status := resp.StatusCode; {
	case plain:
		return fail(err, "that is no answer of sluice serve: is %s its address, and what stands before it?", a.server)
	case status == http.StatusUnauthorized && a.getenv("SLUICE_TOKEN") != "":
		return fail(err, "the token in SLUICE_TOKEN is mistyped, removed or over its end: sluice token add NAME --role ROLE makes another, on the server's machine")
	case status == http.StatusUnauthorized:
		return fail(err, "set SLUICE_TOKEN to a token: sluice token add NAME --role ROLE makes one, on the server's machine")
	case status == http.StatusForbidden:
		return fail(err, "an administrator gives other roles: sluice token add NAME --role ROLE")
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return fail(err, "try again in a moment; its log and /readyz say what it is short of")
	case status/100 == 5:
		return fail(err, "its log says more; the request's id is %s", orDash(resp.Header.Get("X-Request-Id")))
	case status/100 == 3:
		return fail(err, "that is no answer of sluice serve: name its own address")
	}
	return err // what it said is what to do
}

// transport reaches --server. The certificate that serve made for itself is known by its pin, in $SLUICE_SERVER_PIN.
func (a *app) transport() (base string, t *http.Transport) {
	t = &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if socket, ok := strings.CutPrefix(a.server, "unix://"); ok {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
		t.Proxy = nil // it is not asked for its sake, and its password is not for the socket
		return "http://sluice", t
	}
	if pin := a.getenv("SLUICE_SERVER_PIN"); pin != "" {
		t.TLSClientConfig = &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: true, //nolint:gosec // the pin is held instead, below
			VerifyConnection: func(cs tls.ConnectionState) error {
				return identity.Match(strings.Fields(strings.ReplaceAll(pin, ",", " ")), cs.PeerCertificates, time.Now())
			},
		}
	}
	return a.server, t
}
