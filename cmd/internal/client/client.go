// Package client asks a control plane: requests by its API, their errors with what helps, and the session that sluice
// login keeps.
//
// It decides nothing, and follows no redirect, since a token would go to another server. Its functions may be called
// by several goroutines of a run once --server is known (UsesServer).
package client

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

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/view"
)

const (
	RequestTimeout = 30 * time.Second
	maxResponse    = 64 << 20
)

// Refusal is an error response of the control plane.
type Refusal struct {
	server string
	Status int
	detail string
}

func (r *Refusal) Error() string { return r.server + " says: " + r.detail }

// GetResource reads a resource of the control plane.
func GetResource(ctx context.Context, a *cli.App, path string, into any) error {
	return CallServer(ctx, a, http.MethodGet, path, nil, into)
}

// CallServer sends a request to the control plane, with the token in $SLUICE_TOKEN or of sluice login if there is one.
// in and into are JSON, and may be nil.
func CallServer(ctx context.Context, a *cli.App, method, path string, in, into any) error {
	token, err := readToken(a)
	if err != nil {
		return err
	}
	return CallServerAs(ctx, a, method, path, token, in, into)
}

// readToken returns the token in $SLUICE_TOKEN or of sluice login; empty: there is none.
func readToken(a *cli.App) (string, error) {
	if token := a.Getenv("SLUICE_TOKEN"); token != "" {
		return token, nil
	}
	kept, err := ReadSession(a)
	return kept.Token, err
}

// UpgradeTransport returns a transport to --server for connections that switch to another protocol, the server's
// address, and the header that says who asks.
func UpgradeTransport(a *cli.App) (base string, t *http.Transport, header http.Header, err error) {
	token, err := readToken(a)
	if err != nil {
		return "", nil, nil, err
	}
	if base, t, err = Transport(a); err != nil {
		return "", nil, nil, err
	}
	t.ForceAttemptHTTP2, t.DisableKeepAlives = false, false // the header Connection is the upgrade's
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	header = http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return strings.TrimRight(base, "/"), t, header, nil
}

// CallServerAs is CallServer with a token that the caller has; empty: without one.
func CallServerAs(ctx context.Context, a *cli.App, method, path, token string, in, into any) error {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	base, transport, err := Transport(a)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+path, body)
	if err != nil {
		return cli.Fail(fmt.Errorf("ask %s: not an address: %w", a.Server, WithoutURL(err)), serverAddressHint)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// Redirects are not followed: the token would go to another server.
	client := &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	httpResponse, err := client.Do(req)
	if err != nil {
		return connectionError(a, err)
	}
	defer httpResponse.Body.Close()
	response, err := io.ReadAll(io.LimitReader(httpResponse.Body, maxResponse))
	if err != nil {
		return fmt.Errorf("ask %s: %w", a.Server, err)
	}
	if httpResponse.StatusCode/100 != 2 {
		return responseError(a, httpResponse, response)
	}
	if into == nil || httpResponse.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(response, into); err != nil {
		return cli.Fail(fmt.Errorf("ask %s: the answer can't be read: %w", a.Server, err),
			"is it a sluice control plane?")
	}
	return nil
}

// ServerDownHint is the next step where no control plane answers.
const ServerDownHint = "is sluice serve running there? Without --server, --repo and --data are read"

const serverAddressHint = "--server is https://HOST:PORT, http://127.0.0.1:PORT or unix:///PATH"

// WithoutURL returns err without the URL of the request, which means nothing to the reader.
func WithoutURL(err error) error {
	if at := new(url.Error); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// connectionError adds the probable cause and the next step to an error of the connection.
func connectionError(a *cli.App, err error) error {
	err = WithoutURL(err)
	failed := fmt.Errorf("ask %s: %w", a.Server, err)
	unknown := new(tls.CertificateVerificationError)
	netErr := new(net.OpError)
	switch {
	case errors.Is(err, identity.ErrPinMismatch):
		return cli.Fail(failed,
			"set SLUICE_SERVER_PIN to both keys that sluice serve prints when it starts: \"sha256:… sha256:…\"")
	case errors.As(err, &unknown):
		return cli.Fail(failed,
			"for the certificate that serve made itself, set SLUICE_SERVER_PIN to the keys that serve prints "+
				"when it starts; for a certificate of your own authority, set SSL_CERT_FILE")
	case strings.Contains(err.Error(), "certificate required"):
		return cli.Fail(failed,
			"that is the address for cells (--cells): use an address that serve was given as --listen")
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return cli.Fail(failed, "that is a loopback address, which takes http:// and not https://")
	case errors.Is(err, io.EOF) && strings.HasPrefix(a.Server, "http://"):
		return cli.Fail(failed, "that address may need https:// instead of http://")
	case strings.Contains(err.Error(), "unsupported protocol scheme"):
		return cli.Fail(failed, serverAddressHint)
	case errors.As(err, &netErr) && netErr.Op == "proxyconnect":
		return cli.Fail(failed,
			"HTTPS_PROXY or HTTP_PROXY names a proxy that can't be reached; NO_PROXY names the hosts that need none")
	case errors.Is(err, context.DeadlineExceeded):
		return cli.Fail(failed,
			"no answer within %s: is the control plane overloaded, or does something on the way drop packets?",
			RequestTimeout)
	}
	return cli.Fail(failed, ServerDownHint)
}

func responseError(a *cli.App, resp *http.Response, response []byte) error {
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
	}
	plain := json.Unmarshal(response, &problem) != nil || problem.Title == ""
	err := &Refusal{server: a.Server, Status: resp.StatusCode,
		detail: strings.TrimSuffix(strings.TrimSpace(cmp.Or(problem.Detail, problem.Title, resp.Status)), ".")}
	switch status := resp.StatusCode; {
	case plain:
		return cli.Fail(err,
			"that is not an answer from sluice serve: is %s its address, and is a proxy in front of it?", a.Server)
	case status == http.StatusUnauthorized && a.Getenv("SLUICE_TOKEN") != "":
		return cli.Fail(err,
			"the token in SLUICE_TOKEN is mistyped, removed or expired; to make another, on the server's "+
				"machine: sluice token add NAME --role ROLE")
	case status == http.StatusUnauthorized:
		return cli.Fail(err, "set SLUICE_TOKEN to a token; to make one, on the server's machine: sluice token add "+
			"NAME --role ROLE; or, where people can sign in: sluice login --server %s", a.Server)
	case status == http.StatusForbidden:
		return cli.Fail(err, "ask an administrator for a token with another role: sluice token add NAME --role ROLE; "+
			"or, who signed in, for access in sluice.yaml")
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return cli.Fail(err, "try again in a moment; the server's log and /readyz say what it is short of")
	case status/100 == 5:
		return cli.Fail(err, "the server's log says more; the request's id is %s",
			cli.OrDash(resp.Header.Get("X-Request-Id")))
	case status/100 == 3:
		return cli.Fail(err, "that is not an answer from sluice serve: use the server's own address")
	}
	return err // the response itself says what to do
}

// Transport returns a transport to --server. The certificate that serve made itself is verified by its pin, in
// $SLUICE_SERVER_PIN. Plain http:// beyond loopback is an error.
func Transport(a *cli.App) (base string, t *http.Transport, err error) {
	t = &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if socket, ok := strings.CutPrefix(a.Server, "unix://"); ok {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
		t.Proxy = nil // the proxy, and its password, are not for the socket
		return "http://sluice", t, nil
	}
	if at, err := url.Parse(a.Server); err == nil && at.Scheme == "http" && at.Host != "" {
		if !identity.IsLocalHost(at.Hostname()) {
			return "", nil, cli.Fail(fmt.Errorf("ask %s: http:// would go over the network unencrypted, and anyone "+
				"there could read and change it", at.Redacted()), "https://%s, and SLUICE_TOKEN with a token", at.Host)
		}
		t.DialContext = (&net.Dialer{Control: identity.DialLocalOnly}).DialContext
	}
	if pin := a.Getenv("SLUICE_SERVER_PIN"); pin != "" {
		t.TLSClientConfig = &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: true, //nolint:gosec // the pin is held instead, below
			VerifyConnection: func(cs tls.ConnectionState) error {
				return identity.MatchPins(strings.Fields(strings.ReplaceAll(pin, ",", " ")), cs.PeerCertificates,
					time.Now())
			},
		}
	}
	return a.Server, t, nil
}

// EachPage requests all pages of a list. take gets each page and returns the cursor of the next; empty: there
// is none.
func EachPage[T any](ctx context.Context, a *cli.App, path string, q url.Values, take func(T) (after string)) error {
	for {
		var page T
		if err := GetResource(ctx, a, path+"?"+q.Encode(), &page); err != nil {
			return err
		}
		after := take(page)
		if after == "" {
			return nil
		}
		q.Set("after", after)
	}
}

// FetchFlagDetail reads a flag with all its cells from the control plane.
func FetchFlagDetail(ctx context.Context, a *cli.App, key string) (all peopleapi.FlagDetail, err error) {
	err = EachPage(ctx, a, "/v1/flags/"+url.PathEscape(key), url.Values{"limit": {"10000"}},
		func(page peopleapi.FlagDetail) string {
			page.Cells = append(all.Cells, page.Cells...)
			all = page
			return page.Next
		})
	return all, err
}

// FetchServerStatus reads the status of a channel (empty: of all) with all its cells from the control plane.
func FetchServerStatus(ctx context.Context, a *cli.App, channel string) (all view.Status, err error) {
	err = EachPage(ctx, a, "/v1/status", ChannelQuery(channel), func(page view.Status) string {
		page.Cells = append(all.Cells, page.Cells...)
		all = page
		return page.Next
	})
	return all, err
}

// ChannelQuery returns the query for one channel; empty: for all.
func ChannelQuery(channel string) url.Values {
	if channel == "" {
		return url.Values{}
	}
	return url.Values{"channel": {channel}}
}

// AddServerFlag adds --server to a verb that can ask a control plane.
func AddServerFlag(a *cli.App, cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.Server, "server", "",
		"`ADDRESS` of a control plane to ask: http://127.0.0.1:PORT, unix:///PATH, or https://HOST:PORT with a token "+
			"in $SLUICE_TOKEN (default $SLUICE_SERVER; without one, --repo and --data are read)")
}

// UsesServer reports whether to ask a control plane. A repository or data folder named by a flag takes
// precedence over $SLUICE_SERVER.
func UsesServer(a *cli.App) bool {
	byFlag := func(value, variable string) bool { return value != "" && value != a.Getenv(variable) }
	if a.Server == "" && a.Repo == "" && !byFlag(a.Data, "SLUICE_DATA") && !byFlag(a.Database, "SLUICE_DATABASE") {
		a.Server = a.Getenv("SLUICE_SERVER")
	}
	return a.Server != ""
}

// UsesServerForFlags reports whether to ask a control plane. A flags repository named by a flag takes
// precedence over $SLUICE_SERVER.
func UsesServerForFlags(a *cli.App) bool {
	if a.Server == "" && a.FlagsRepo == "" {
		a.Server = a.Getenv("SLUICE_SERVER")
	}
	return a.Server != ""
}
