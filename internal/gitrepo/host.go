package gitrepo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// The two services of a git host (gitprotocol-pack).
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// host is where the release repository is.
type host interface {
	// dial begins one exchange with a service. It lasts until ctx ends, close, or the host's end.
	dial(ctx context.Context, service string) (conn, error)
}

// conn is one exchange: the host says which refs it has, is asked once, answers, and ends.
type conn interface {
	// advertisement is what the host says first.
	advertisement() io.Reader
	// ask sends the one request and gives the answer.
	ask(request []byte) (io.Reader, error)
	// words is what the host said beside the protocol: for people, on one line, bounded.
	words() string
	// close ends the exchange, whatever the host does meanwhile. It may be called again.
	close()
}

// findHost tells by the form of a URL what kind of host it names, as git clone does.
func findHost(git, address string, o Options) (host, error) {
	if _, err := os.Stat(address); err == nil {
		return newDisk(git, address)
	}
	at, err := transport.NewEndpoint(address)
	if err != nil {
		return nil, err
	}
	switch at.Protocol {
	case "file":
		return newDisk(git, at.Path)
	case "ssh":
		return newShell(at, o.SSH, o.Limits.Exchange)
	case "https", "http":
		return newWeb(address, o.Web)
	}
	return nil, fmt.Errorf("%s:// is not supported: use a path, https:// or ssh://", at.Protocol)
}

// redacted is an address without its password.
func redacted(address string) string {
	if u, err := url.Parse(address); err == nil && u.User != nil {
		return u.Redacted()
	}
	return address
}

// refs are what a host advertises.
type refs struct{ *packp.AdvRefs }

const maxAdvertisement = 64 << 20 // bytes: close to a million refs

// readRefs reads the advertisement. An empty repository has no refs, and is no error.
func readRefs(c conn) (refs, error) {
	adv := packp.NewAdvRefs()
	err := adv.Decode(io.LimitReader(c.advertisement(), maxAdvertisement))
	switch {
	case err == nil, errors.Is(err, packp.ErrEmptyAdvRefs):
		return refs{adv}, nil
	case errors.Is(err, packp.ErrEmptyInput):
		err = errors.New("the host ended the exchange")
	default:
		err = fmt.Errorf("its refs can't be read (of git's object formats, only SHA-1 is supported): %w", err)
	}
	c.close() // so that all its words are there
	if said := c.words(); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return refs{}, err
}

// head is the branch that the host's HEAD names, if it says so.
func (r refs) head() (string, bool) {
	for _, s := range r.Capabilities.Get("symref") {
		if to, ok := strings.CutPrefix(s, "HEAD:refs/heads/"); ok {
			return to, true
		}
	}
	return "", false
}

// branches names some of the branches, for an error message.
func (r refs) branches() []string {
	var list []string
	for name := range r.References {
		if b, ok := strings.CutPrefix(name, "refs/heads/"); ok && len(list) < 10 {
			list = append(list, b)
		}
	}
	return list
}

// disk is a repository on a disk of this machine. It is asked like any other host, through
// git-upload-pack and git-receive-pack, which do the locking.
type disk struct {
	git  string
	path string // as given
	dir  string // its git folder
}

func newDisk(git, path string) (*disk, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dir, err := gitDir(path)
	if err != nil {
		return nil, err
	}
	return &disk{git: git, path: path, dir: dir}, nil
}

// filesForRefs tells whether the refs are files that can be read without asking git.
func (d *disk) filesForRefs() bool { return !isDir(filepath.Join(d.dir, "reftable")) }

func (d *disk) dial(ctx context.Context, service string) (conn, error) {
	release := func() {}
	if service == receivePack {
		var err error
		if release, err = d.turn(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := command(ctx, d.git, hostEnv(), strings.TrimPrefix(service, "git-"), d.path)
	said := &tail{limit: maxWords}
	cmd.Stderr = said
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		cancel()
		release()
		return nil, fmt.Errorf("start %s: %w", service, err)
	}
	return &stream{in: in, out: bufio.NewReader(out), said: said, end: func(finished bool) {
		defer release()
		if !finished { // what a hook left in the background is not ours to kill
			cancel()
		}
		_ = reap(ctx, cmd) // its words say why it failed
		cancel()
	}}, nil
}

// stream is an exchange over two pipes: with a process here, or one behind ssh.
type stream struct {
	in       io.WriteCloser
	out      *bufio.Reader
	said     *tail
	end      func(finished bool) // waits for the other side; stops it first, unless it said all it had to say
	finished atomic.Bool         // out was read to its end
	once     sync.Once
}

func (s *stream) advertisement() io.Reader { return s }

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.out.Read(p)
	if errors.Is(err, io.EOF) {
		s.finished.Store(true)
	}
	return n, err
}

// ask writes in the background: a host may begin to answer before it read everything. That the
// host does not read to the end is told by its answer, not by the broken pipe.
func (s *stream) ask(request []byte) (io.Reader, error) {
	go func() {
		_, _ = s.in.Write(request)
		_ = s.in.Close()
	}()
	return s, nil
}

func (s *stream) words() string { return s.said.String() }

func (s *stream) close() {
	s.once.Do(func() {
		_ = s.in.Close()
		s.end(s.finished.Load())
	})
}
