package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
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
		return fail(fmt.Errorf("ask %s: %w", a.server, err), "--server is http://HOST:PORT, https://HOST:PORT or unix:///PATH")
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
		return fail(fmt.Errorf("ask the control plane: %w", err), "does sluice serve run there? Without --server, --repo and --data are read")
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

func (a *app) refused(resp *http.Response, answer []byte) error {
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
	}
	if json.Unmarshal(answer, &problem) != nil || problem.Title == "" {
		problem.Title = resp.Status
	}
	err := &refusal{server: a.server, status: resp.StatusCode, said: strings.TrimSpace(problem.Title + ". " + problem.Detail)}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return fail(err, "set SLUICE_TOKEN to a token: sluice token add NAME --role ROLE makes one, on the server's machine")
	case http.StatusForbidden:
		return fail(err, "an administrator gives other roles: sluice token add NAME --role ROLE")
	}
	return fail(err, "sluice status --server %s", a.server)
}

// transport reaches --server. The certificate that serve made for itself is known by its pin, in $SLUICE_SERVER_PIN.
func (a *app) transport() (base string, t *http.Transport) {
	t = &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if socket, ok := strings.CutPrefix(a.server, "unix://"); ok {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
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
