package debugger

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/upgrade"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

const (
	lookEvery = time.Second // at the debug folder

	// Pauses between dials: the control plane has the agent wait for the person already.
	minDialPause = 200 * time.Millisecond
	maxDialPause = 5 * time.Second

	// controlPlane stands for the address, which the transport knows.
	controlPlane = "https://control-plane"
)

// Options configures a Debugger. All fields but OnChange, PodLogs and PodShells are required.
type Options struct {
	StateDir string
	Cell     string
	// Identity returns the cell's present key; nil: it has none, and no one could tell its host keys from others.
	Identity func() ed25519.PrivateKey
	// Transport sends requests to the control plane as this cell, over connections of its own.
	Transport http.RoundTripper
	PodLogs   PodLogs          // nil: the cell has no pods
	PodShells PodShells        // nil: the cell has no pods
	Enclose   []string         // command of the program whose body is process.RunEnclosed; empty: nothing can run
	Now       func() time.Time // the cell's clock
	OnChange  func()           // called after a session began or ended
	Log       zerolog.Logger
}

// Debugger serves the debug sessions that a cell's owner permits.
type Debugger struct {
	options Options
	folder  debugfolder.Folder
	seen    string // of the folder, when it was last read

	mu       sync.Mutex // guards what follows
	kept     hold
	attended map[string]bool        // requests whose session is awaited or live
	live     map[string]debug.Scope // of sessions that have begun
}

// New returns a debugger that does nothing before Run but keep what earlier sessions changed.
func New(o Options) *Debugger {
	d := &Debugger{options: o, folder: debugfolder.Of(o.StateDir), attended: map[string]bool{},
		live: map[string]debug.Scope{}}
	d.recallKept()
	return d
}

// Run serves sessions until ctx ends, and returns once they have ended.
func (d *Debugger) Run(ctx context.Context) {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	d.closeInterrupted()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		d.look(ctx, &sessions)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look begins to attend to what the owner permitted, and to send what ended.
func (d *Debugger) look(ctx context.Context, sessions *sync.WaitGroup) {
	state := d.folderState()
	if state == d.seen {
		return
	}
	now, err := moment()
	if err != nil {
		d.options.Log.Warn().Err(err).Msg("no debug session can begin")
		return
	}
	entries, err := d.folder.List()
	if err != nil {
		d.options.Log.Warn().Err(err).Msg("requests for debug access can't be read")
	}
	if err == nil || len(entries) > 0 {
		d.seen = state
	}
	for _, e := range entries {
		switch state := e.State(now, d.options.Now()); {
		case state == debugfolder.Permitted && !e.Stopped && d.attendOnce(e.ID):
			sessions.Go(func() { d.attend(ctx, e) })
		case state == debugfolder.Ended && e.Seal != nil && !d.folder.Sent(e.ID) && d.attendOnce(e.ID):
			sessions.Go(func() { d.send(ctx, e) })
		}
	}
}

// folderState returns what changes with the folder's content.
func (d *Debugger) folderState() string {
	entries, err := os.ReadDir(string(d.folder))
	if err != nil {
		return ""
	}
	state := ""
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			state += fmt.Sprintln(e.Name(), info.ModTime().UnixNano())
		}
	}
	return state
}

// attendOnce reports whether nobody attends to a request yet.
func (d *Debugger) attendOnce(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.attended[id] {
		return false
	}
	d.attended[id] = true
	return true
}

func (d *Debugger) leave(id string) {
	d.mu.Lock()
	delete(d.attended, id)
	d.mu.Unlock()
}

// attend dials until the session of a request has been served, or may not begin any more.
func (d *Debugger) attend(ctx context.Context, e debugfolder.Entry) {
	defer d.leave(e.ID)
	log := d.options.Log.With().Str("request", e.ID).Logger()
	log.Info().Str("person", e.Request.Person).Msg("a debug session may begin: the agent waits for the person")
	for failures := 0; ; {
		err := d.try(ctx, e)
		if err == nil || ctx.Err() != nil {
			break
		}
		if upgrade.IsAlone(err) {
			failures = 0
		} else {
			log.Info().Err(err).Msg("no debug session began yet")
			failures++
		}
		if backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(minDialPause, maxDialPause, failures))) != nil {
			return
		}
		now, err := moment()
		again, loaded := d.folder.Load(e.ID)
		if err := errors.Join(err, loaded); err != nil || again.Stopped ||
			again.State(now, d.options.Now()) != debugfolder.Permitted {
			log.Info().Err(err).Msg("the debug session may not begin any more")
			return
		}
	}
	if ended, err := d.folder.Load(e.ID); err == nil && ended.Seal != nil {
		d.send(ctx, ended)
	}
}

// try dials once and serves the session. An error means that no session began.
func (d *Debugger) try(ctx context.Context, e debugfolder.Entry) error {
	identity := d.options.Identity()
	if identity == nil {
		return errors.New("the cell has no key, by which a person could tell it from another: register it with a token")
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a host key: %w", err)
	}
	hostKey, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return fmt.Errorf("make a host key: %w", err)
	}
	vouched, err := upgrade.Encode(debug.NewHostKey(d.options.Cell, identity, e.ID, hostKey.PublicKey()))
	if err != nil {
		return err
	}
	conn, _, err := upgrade.Dial(ctx, d.options.Transport, controlPlane+debug.AgentPath(e.ID),
		http.Header{debug.HostKeyHeader: {vouched}})
	if err != nil {
		return err
	}
	permit := &folderPermit{folder: d.folder, id: e.ID, onBegin: func() { d.setLive(e.ID, &e.Request) }}
	s := &session{id: e.ID, request: e.Request, permission: *e.Permission, permit: permit, hostKey: hostKey,
		record:   func() (recordFile, error) { return createRecord(d.folder.RecordPath(e.ID)) },
		commands: func() diagnostics.List { return permitted(d, &e, d.folder.Commands) },
		logs:     func() diagnostics.Logs { return permitted(d, &e, d.folder.Logs) },
		podLogs:  d.options.PodLogs, podShells: d.options.PodShells, log: d.options.Log,
		programs: programs{enclose: d.options.Enclose, id: e.ID, user: e.Permission.User}}
	end, err := s.serve(ctx, conn)
	if err != nil {
		return d.sealUnbegun(ctx, e, err)
	}
	d.keepChanges(e.ID, e.Permission, end.ended)
	kept := d.seal(e, end)
	d.setLive(e.ID, nil)
	if !kept {
		d.sealLater(ctx, e, end)
	}
	return nil
}

// sealUnbegun seals a session that did not begin because its permission, which is used all the same, was not marked so
// durably. It returns the error if the permission is not used.
func (d *Debugger) sealUnbegun(ctx context.Context, e debugfolder.Entry, why error) error {
	now, err := d.folder.Load(e.ID)
	if err != nil || now.Begun == nil || now.Seal != nil {
		return why
	}
	d.options.Log.Error().Err(why).Str("request", e.ID).Msg("a debug session did not begin, and its permission is used")
	end := ending{why: "it did not begin: that its permission is used could not be made durable", began: now.Begun.At,
		ended: time.Now()}
	if end.hash, end.length, err = d.folder.HashRecord(e.ID); err != nil {
		d.options.Log.Error().Err(err).Str("request", e.ID).Msg("the record of a debug session can't be read")
	}
	if !d.seal(e, end) {
		d.sealLater(ctx, e, end)
	}
	return nil
}

// sealLater seals a session that could not be sealed yet: on a full disk, say.
func (d *Debugger) sealLater(ctx context.Context, e debugfolder.Entry, end ending) {
	for failures := 0; ; failures++ {
		if backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(minSendPause, maxSendPause, failures))) != nil {
			return // the next start of the agent seals it
		}
		if d.seal(e, end) {
			return
		}
	}
}

// permitted returns the declared commands, or the logs, that the owner permitted.
func permitted[T any](d *Debugger, e *debugfolder.Entry, load func(*debugfolder.Entry) (T, error)) T {
	all, err := load(e)
	if err != nil {
		d.options.Log.Warn().Err(err).Msg("a debug session can't run or read what the owner permitted")
	}
	return all
}

// setLive notes that a session began; nil: that it ended.
func (d *Debugger) setLive(id string, r *debug.Request) {
	d.mu.Lock()
	if r != nil {
		d.live[id] = r.Scope
	} else {
		delete(d.live, id)
	}
	d.mu.Unlock()
	if d.options.OnChange != nil {
		d.options.OnChange()
	}
}
