package podshell

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"net/url"

	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/sluice-cd/sluice/cells/debug"
)

// process is a command in a container, as far as this end knows of it.
type process struct {
	cut  context.CancelCauseFunc // closes the connection to it
	done chan struct{}           // closed once it ended, or was cut
	err  error                   // why, once done is closed
}

// exec starts a command in a container, and cuts the connection to it when ctx ends. No output passes afterwards if the
// writers of o take none.
func (s *Shells) exec(ctx context.Context, in debug.Pod, command []string, o remotecommand.StreamOptions) *process {
	ctx, cut := context.WithCancelCause(ctx)
	p := &process{cut: cut, done: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- s.stream(ctx, in, command, o) }() // an API server may keep it waiting
	go func() {
		defer close(p.done)
		defer cut(nil)
		select {
		case p.err = <-ended:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			p.err = context.Cause(ctx)
		}
	}()
	return p
}

// stream runs a command in a container: by WebSocket or, where the API server or something before it does not take
// that, by SPDY.
func (s *Shells) stream(ctx context.Context, in debug.Pod, command []string, o remotecommand.StreamOptions) error {
	q := url.Values{"container": {in.Container}, "command": command}
	for name, is := range map[string]bool{"stdin": o.Stdin != nil, "stdout": true, "stderr": o.Stderr != nil,
		"tty": o.Tty} {
		if is {
			q.Set(name, "true")
		}
	}
	at := s.client.Post().AbsPath("/api", "v1", "namespaces", in.Namespace, "pods", in.Name, "exec").URL()
	at.RawQuery = q.Encode()
	web, err := remotecommand.NewWebSocketExecutor(s.config, "GET", at.String())
	if err != nil {
		return fmt.Errorf("prepare to run a command in a pod: %w", err)
	}
	old, err := remotecommand.NewSPDYExecutor(s.config, "POST", at)
	if err != nil {
		return fmt.Errorf("prepare to run a command in a pod: %w", err)
	}
	either, err := remotecommand.NewFallbackExecutor(web, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return fmt.Errorf("prepare to run a command in a pod: %w", err)
	}
	// A connection on which the API server does not answer does not end with the context by itself.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		context.AfterFunc(ctx, func() { _ = i.Conn.Close() })
	}})
	// What it logs of a connection that was cut is no news.
	return either.StreamWithContext(logr.NewContext(ctx, logr.Discard()), o)
}
