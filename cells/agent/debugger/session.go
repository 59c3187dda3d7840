package debugger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

const (
	handshakeTimeout = 30 * time.Second
	keepAlive        = 15 * time.Second // between two questions whether the person's end is there
	maxSilence       = 45 * time.Second // after which it is not
	checkEvery       = 100 * time.Millisecond
	// farewell is how long the person's end has to take the reason why the session ends.
	farewell = 200 * time.Millisecond
)

// Why a session ended. The reasons stand in its seal.
var (
	errTimeUp   = errors.New("its time was over")
	errAgentEnd = errors.New("the agent ended")
	errLeft     = errors.New("the person left")
	errSilent   = errors.New("the person's end did not answer any more")
)

// permit is the owner's permission for a session, and what the owner decides while it lasts.
type permit interface {
	// begin marks the permission as used, durably. No session begins after an error.
	begin() error
	// left returns how long the session may still last.
	left() time.Duration
	// mustEnd returns why the session has to end, such as that the owner stopped it; nil: it may go on.
	mustEnd() error
	// ask asks the owner for one command, and returns once the owner has answered, or ctx ended.
	ask(ctx context.Context, command []string) (bool, error)
}

// session is one session: SSH over one connection.
type session struct {
	id         string
	request    debug.Request
	permission debug.Permission
	permit     permit
	hostKey    ssh.Signer
	record     func() (recordFile, error)
	commands   func() diagnostics.List
	logs       func() diagnostics.Logs
	podLogs    PodLogs   // nil: the cell has no pods
	podShells  PodShells // nil: the cell has no pods
	programs   programs
	log        zerolog.Logger

	// Set once the session has begun.
	recorder *recorder
	end      context.CancelCauseFunc
	busy     sync.Mutex // held while a channel is open
}

// ending says how a session ended.
type ending struct {
	why          string
	began, ended time.Time
	hash         string
	length       int64
}

// errNotBegun wraps the errors of sessions that never began. The permission is not used, unless marking it so failed
// half-way: see Debugger.sealUnbegun.
var errNotBegun = errors.New("no session began")

// serve serves a session to its end, and closes the connection.
func (s *session) serve(agent context.Context, conn net.Conn) (ending, error) {
	defer func() { _ = conn.Close() }()
	connection, channels, requests, err := s.handshake(agent, conn)
	if err != nil {
		return ending{}, fmt.Errorf("%w: %w", errNotBegun, err)
	}
	file, err := s.record()
	if err != nil {
		return ending{}, fmt.Errorf("%w: %w", errNotBegun, err)
	}
	ctx, end := context.WithCancelCause(agent)
	defer end(nil)
	s.end = end
	began := time.Now()
	title := fmt.Sprintf("sluice debug access: cell %s, case %s, %s, request %s", s.request.Cell, s.request.Case,
		s.request.Person, s.id)
	if s.recorder, err = newRecorder(file, title, began, func(err error) { s.end(err) }); err != nil {
		_ = file.Close()
		return ending{}, fmt.Errorf("%w: %w", errNotBegun, err)
	}
	if err := s.permit.begin(); err != nil {
		_, _, _ = s.recorder.close()
		return ending{}, fmt.Errorf("%w: %w", errNotBegun, err)
	}
	s.log.Info().Str("request", s.id).Str("person", s.request.Person).Msg("a debug session began")
	go ssh.DiscardRequests(requests) // refuses forwarding, and answers what asks whether this end is there
	go s.keepAlive(ctx, connection)
	go s.watchPermit(ctx, s.permit)
	go func() {
		for c := range channels {
			s.open(ctx, c)
		}
		s.end(errLeft)
	}()
	<-ctx.Done()
	why := context.Cause(ctx)
	if agent.Err() != nil {
		why = errAgentEnd
	}
	hangUp := time.AfterFunc(farewell, func() { _ = conn.Close() })
	s.busy.Lock() // commands are dead then, and none begins any more
	hangUp.Stop()
	_ = conn.Close()
	_ = s.recorder.add(eventMarker, []byte("ended: "+why.Error())) // if it can't be written, the seal says why
	e := ending{why: words.Clip(why.Error(), 300), began: began, ended: time.Now()}
	var unwritten error
	if e.hash, e.length, unwritten = s.recorder.close(); unwritten != nil {
		s.log.Warn().Err(unwritten).Str("request", s.id).Msg("the record of a debug session is not whole")
	}
	s.log.Info().Str("request", s.id).Str("why", e.why).Msg("a debug session ended")
	return e, nil
}

// handshake has the person's end prove the request's key.
func (s *session) handshake(
	ctx context.Context, conn net.Conn,
) (*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	key, err := s.request.PublicKey()
	if err != nil {
		return nil, nil, nil, err
	}
	config := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-Sluice", MaxAuthTries: 6,
		// RSA keys sign with SHA-2 only.
		PublicKeyAuthAlgorithms: []string{ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
			ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512},
		PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
			if !bytes.Equal(offered.Marshal(), key.Marshal()) {
				return nil, errors.New("it is not the key that signed the request")
			}
			return nil, nil
		},
	}
	config.AddHostKey(s.hostKey)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	return ssh.NewServerConn(conn, config)
}

// watchPermit ends the session when the permission is over.
func (s *session) watchPermit(ctx context.Context, p permit) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		if p.left() <= 0 {
			s.end(errTimeUp)
		} else if why := p.mustEnd(); why != nil {
			s.end(why)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// keepAlive finds out whether the person's end is there.
func (s *session) keepAlive(ctx context.Context, c *ssh.ServerConn) {
	ticker := time.NewTicker(keepAlive)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		silence := time.AfterFunc(maxSilence, func() { s.end(errSilent) })
		_, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
		silence.Stop()
		if err != nil {
			return // the channels end, too
		}
	}
}

// open opens a channel. Only one is open at a time, so that whoever watches or plays the record sees one thing.
func (s *session) open(ctx context.Context, c ssh.NewChannel) {
	if c.ChannelType() != "session" {
		_ = c.Reject(ssh.Prohibited, "a debug session forwards nothing")
		return
	}
	if !s.busy.TryLock() {
		_ = c.Reject(ssh.ResourceShortage, "a debug session runs one command at a time")
		return
	}
	ch, requests, err := c.Accept()
	if err != nil || ctx.Err() != nil {
		s.busy.Unlock()
		return
	}
	go func() {
		newChannel(s, ch).serve(ctx, requests)
		s.busy.Unlock() // before the person's end hears that it may open another
		_ = ch.Close()
	}()
}
