package gitrepo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// SSH says how an ssh:// repository is reached. The host's key is always checked.
type SSH struct {
	Key        string // file of a private key without a passphrase; empty: the agent's keys only
	Agent      string // socket of an agent; default: $SSH_AUTH_SOCK
	KnownHosts string // default: ~/.ssh/known_hosts
}

// sshHost is a repository behind ssh.
type sshHost struct {
	endpoint   *transport.Endpoint
	address    string // host:port
	signers    []ssh.Signer
	agent      string
	knownHosts string
	timeout    time.Duration // for connecting
}

func newSSHHost(at *transport.Endpoint, o SSH, timeout time.Duration) (*sshHost, error) {
	port := at.Port
	if port <= 0 {
		port = 22
	}
	s := &sshHost{
		endpoint: at, address: net.JoinHostPort(at.Host, strconv.Itoa(port)),
		agent: o.Agent, knownHosts: o.KnownHosts, timeout: min(timeout, 30*time.Second),
	}
	if s.agent == "" {
		s.agent = os.Getenv("SSH_AUTH_SOCK")
	}
	if s.knownHosts == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("no known_hosts file is given: %w", err)
		}
		s.knownHosts = filepath.Join(home, ".ssh", "known_hosts")
	}
	if o.Key != "" {
		key, err := readKey(o.Key)
		if err != nil {
			return nil, err
		}
		s.signers = append(s.signers, key)
	}
	return s, nil
}

func readKey(file string) (ssh.Signer, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read SSH key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("SSH key %s has a passphrase: load it into an ssh-agent, or use one without", file)
	} else if err != nil {
		return nil, fmt.Errorf("SSH key %s: %w", file, err)
	}
	return key, nil
}

func (s *sshHost) dial(ctx context.Context, service string) (conn, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.startService(client, service)
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("start %s at %s: %w", service, s.address, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	end := c.finish
	c.finish = func(finished bool) {
		stop()
		end(finished)
		_ = client.Close()
	}
	return c, nil
}

func (s *sshHost) startService(client *ssh.Client, service string) (*stream, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	stderr := &tailBuffer{limit: maxMessage}
	session.Stderr = stderr
	in, err1 := session.StdinPipe()
	out, err2 := session.StdoutPipe()
	path := s.endpoint.Path
	if strings.HasPrefix(path, "/~") {
		path = path[1:]
	}
	if err := errors.Join(err1, err2, session.Start(service+" "+quoteShellWord(path))); err != nil {
		return nil, err
	}
	return &stream{in: in, out: bufio.NewReader(out), stderr: stderr, finish: func(bool) {
		_ = session.Close()
	}}, nil
}

// quoteShellWord quotes a word for the host's shell, as git does.
func quoteShellWord(word string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(word) + "'"
}

func (s *sshHost) connect(ctx context.Context) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if _, err := os.Stat(s.knownHosts); err != nil {
		return nil, fmt.Errorf("the host keys in %s are needed: %w; %s", s.knownHosts, err, s.advice())
	}
	known, err := knownhosts.NewDB(s.knownHosts)
	if err != nil {
		return nil, fmt.Errorf("read known hosts: %w", err)
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	methods, done := s.authMethods(ctx)
	defer done()
	user := s.endpoint.User
	if user == "" {
		user = "git"
	}
	c, channels, requests, err := ssh.NewClientConn(raw, s.address, &ssh.ClientConfig{
		User: user, Auth: methods,
		HostKeyCallback: known.HostKeyCallback(), HostKeyAlgorithms: known.HostKeyAlgorithms(s.address),
	})
	if err == nil {
		return ssh.NewClient(c, channels, requests), nil
	}
	_ = raw.Close()
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("%s does not answer: %w", s.address, ctx.Err())
	case knownhosts.IsHostKeyChanged(err):
		err = fmt.Errorf("%s shows another host key than %s has: find out why before you trust it (%w)", s.address,
			s.knownHosts, err)
	case knownhosts.IsHostUnknown(err):
		err = fmt.Errorf("the host key of %s is not in %s: %s (%w)", s.address, s.knownHosts, s.advice(), err)
	}
	return nil, err
}

func (s *sshHost) advice() string {
	host, port, _ := net.SplitHostPort(s.address)
	return fmt.Sprintf("ask the host's owner for its fingerprint, then add it with: ssh-keyscan -p %s %s >> %s",
		port, host, s.knownHosts)
}

// authMethods returns the ways to authenticate: the key file first, then the agent's keys.
func (s *sshHost) authMethods(ctx context.Context) (list []ssh.AuthMethod, done func()) {
	done = func() {}
	keys := s.signers
	if s.agent != "" {
		if c, err := (&net.Dialer{}).DialContext(ctx, "unix", s.agent); err == nil {
			done = func() { _ = c.Close() }
			return []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
				more, err := agent.NewClient(c).Signers()
				if err != nil && len(keys) > 0 {
					return keys, nil
				}
				return append(keys[:len(keys):len(keys)], more...), err
			})}, done
		}
	}
	return []ssh.AuthMethod{ssh.PublicKeys(keys...)}, done
}
