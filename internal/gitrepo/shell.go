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
	Key        string // file of a private key without a passphrase; empty: only the agent
	Agent      string // socket of an agent; default: $SSH_AUTH_SOCK
	KnownHosts string // default: ~/.ssh/known_hosts
}

// shell is a repository behind ssh.
type shell struct {
	at      *transport.Endpoint
	address string // host:port
	keys    []ssh.Signer
	agent   string
	known   string
	timeout time.Duration // of connecting
}

func newShell(at *transport.Endpoint, o SSH, timeout time.Duration) (*shell, error) {
	port := at.Port
	if port <= 0 {
		port = 22
	}
	s := &shell{
		at: at, address: net.JoinHostPort(at.Host, strconv.Itoa(port)),
		agent: o.Agent, known: o.KnownHosts, timeout: min(timeout, 30*time.Second),
	}
	if s.agent == "" {
		s.agent = os.Getenv("SSH_AUTH_SOCK")
	}
	if s.known == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("no known_hosts file is given: %w", err)
		}
		s.known = filepath.Join(home, ".ssh", "known_hosts")
	}
	if o.Key != "" {
		key, err := readKey(o.Key)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, key)
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

func (s *shell) dial(ctx context.Context, service string) (conn, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.start(client, service)
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("start %s at %s: %w", service, s.address, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	end := c.end
	c.end = func(finished bool) {
		stop()
		end(finished)
		_ = client.Close()
	}
	return c, nil
}

func (s *shell) start(client *ssh.Client, service string) (*stream, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	said := &tail{limit: maxWords}
	session.Stderr = said
	in, err1 := session.StdinPipe()
	out, err2 := session.StdoutPipe()
	path := s.at.Path
	if strings.HasPrefix(path, "/~") {
		path = path[1:]
	}
	if err := errors.Join(err1, err2, session.Start(service+" "+quoted(path))); err != nil {
		return nil, err
	}
	return &stream{in: in, out: bufio.NewReader(out), said: said, end: func(bool) {
		_ = session.Close()
	}}, nil
}

// quoted is a word for the host's shell, as git quotes it.
func quoted(word string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(word) + "'"
}

func (s *shell) connect(ctx context.Context) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if _, err := os.Stat(s.known); err != nil {
		return nil, fmt.Errorf("the host keys in %s are needed: %w; %s", s.known, err, s.advice())
	}
	known, err := knownhosts.NewDB(s.known)
	if err != nil {
		return nil, fmt.Errorf("read known hosts: %w", err)
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	methods, done := s.methods(ctx)
	defer done()
	user := s.at.User
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
		err = fmt.Errorf("%s shows another host key than %s has: find out why before you trust it (%w)", s.address, s.known, err)
	case knownhosts.IsHostUnknown(err):
		err = fmt.Errorf("the host key of %s is not in %s: %s (%w)", s.address, s.known, s.advice(), err)
	}
	return nil, err
}

func (s *shell) advice() string {
	host, port, _ := net.SplitHostPort(s.address)
	return fmt.Sprintf("ask the host's owner for its fingerprint, then add it with: ssh-keyscan -p %s %s >> %s", port, host, s.known)
}

// methods are the ways to prove who we are: the key file first, then what the agent has.
func (s *shell) methods(ctx context.Context) (list []ssh.AuthMethod, done func()) {
	done = func() {}
	keys := s.keys
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
