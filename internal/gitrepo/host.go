package gitrepo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
)

// The two services of a git host (gitprotocol-pack).
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// host is where the repository is.
type host interface {
	// dial begins one exchange with a service, which lasts until ctx ends, close, or the host's end.
	dial(ctx context.Context, service string) (conn, error)
}

// conn is one exchange: the host advertises its refs, gets one request, responds, and ends.
type conn interface {
	// advertisement returns the host's refs.
	advertisement() io.Reader
	// sendRequest sends the one request and returns the response.
	sendRequest(request []byte) (io.Reader, error)
	// message returns the host's output beside the protocol, for people: one line, bounded.
	message() string
	// close ends the exchange, whatever the host is doing. It may be called again.
	close()
}

// newHost chooses the kind of host by the form of the address, as git clone does.
func newHost(git, address string, o Options) (host, error) {
	if _, err := os.Stat(address); err == nil {
		return newDiskHost(git, address)
	}
	at, err := transport.NewEndpoint(address)
	if err != nil {
		return nil, errors.New("this is not an address") // the cause would show the password
	}
	switch at.Protocol {
	case "file":
		return newDiskHost(git, at.Path)
	case "ssh":
		return newSSHHost(at, o.SSH, o.Limits.Exchange)
	case "https", "http":
		return newHTTPHost(address, o.Web)
	}
	return nil, fmt.Errorf("%s:// is not supported: use a path, https:// or ssh://", at.Protocol)
}

// advertisedRefs are the refs that a host advertises.
type advertisedRefs struct{ *packp.AdvRefs }

const maxAdvertisement = 64 << 20 // bytes: close to a million refs

// readAdvertisement reads the refs. An empty repository has none, which is no error.
func readAdvertisement(c conn) (advertisedRefs, error) {
	adv := packp.NewAdvRefs()
	err := adv.Decode(io.LimitReader(c.advertisement(), maxAdvertisement))
	switch {
	case err == nil, errors.Is(err, packp.ErrEmptyAdvRefs):
		return advertisedRefs{adv}, nil
	case errors.Is(err, packp.ErrEmptyInput):
		err = errors.New("the host ended the exchange")
	default:
		err = fmt.Errorf("its refs can't be read (of git's object formats, only SHA-1 is supported): %w", err)
	}
	c.close() // so that the message is complete
	if message := c.message(); message != "" {
		err = fmt.Errorf("%w: %s", err, message)
	}
	return advertisedRefs{}, err
}

// headBranch returns the branch of the host's HEAD, if the host advertises it.
func (r advertisedRefs) headBranch() (string, bool) {
	for _, s := range r.Capabilities.Get("symref") {
		if to, ok := strings.CutPrefix(s, "HEAD:refs/heads/"); ok {
			return to, true
		}
	}
	return "", false
}

// tip returns a branch's tip; zero: the host has no such branch.
func (r advertisedRefs) tip(branch string) objects.ID {
	return objects.ID(r.References["refs/heads/"+branch])
}

// branches returns some branches, for an error message.
func (r advertisedRefs) branches() []string {
	var list []string
	for name := range r.References {
		if b, ok := strings.CutPrefix(name, "refs/heads/"); ok && len(list) < 10 {
			list = append(list, b)
		}
	}
	return list
}

// diskHost is a repository on a local disk. It is used like any other host, through git-upload-pack and
// git-receive-pack, which do the locking.
type diskHost struct {
	git  string
	path string // as given
	dir  string // the git folder
}

func newDiskHost(git, path string) (*diskHost, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dir, err := findGitDir(path)
	if err != nil {
		return nil, err
	}
	return &diskHost{git: git, path: path, dir: dir}, nil
}

// hasRefFiles reports whether the refs are files, which can be read without asking git.
func (d *diskHost) hasRefFiles() bool { return !isDir(filepath.Join(d.dir, "reftable")) }

func (d *diskHost) dial(ctx context.Context, service string) (conn, error) {
	release := func() {}
	if service == receivePack {
		var err error
		if release, err = d.lockPush(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := gitCommand(ctx, d.git, hostGitEnv(), strings.TrimPrefix(service, "git-"), d.path)
	stderr := &tailBuffer{limit: maxMessage}
	cmd.Stderr = stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		cancel()
		release()
		return nil, fmt.Errorf("start %s: %w", service, err)
	}
	return &stream{in: in, out: bufio.NewReader(out), stderr: stderr, finish: func(finished bool) {
		defer release()
		if !finished { // leave a hook's background processes alone
			cancel()
		}
		_ = waitCommand(ctx, cmd) // stderr says why it failed
		cancel()
	}}, nil
}

// stream is an exchange over two pipes, with a local process or over ssh.
type stream struct {
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *tailBuffer
	finish func(finished bool) // waits for the other side; stops it first unless it ended its output
	sawEOF atomic.Bool
	once   sync.Once
}

func (s *stream) advertisement() io.Reader { return s }

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.out.Read(p)
	if errors.Is(err, io.EOF) {
		s.sawEOF.Store(true)
	}
	return n, err
}

// sendRequest writes in the background, since a host may respond before it read everything. If the host does not read
// to the end, its response tells why, not the broken pipe.
func (s *stream) sendRequest(request []byte) (io.Reader, error) {
	go func() {
		_, _ = s.in.Write(request)
		_ = s.in.Close()
	}()
	return s, nil
}

func (s *stream) message() string { return s.stderr.String() }

func (s *stream) close() {
	s.once.Do(func() {
		_ = s.in.Close()
		s.finish(s.sawEOF.Load())
	})
}
