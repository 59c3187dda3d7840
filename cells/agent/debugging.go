package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/agent/debuginbox"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// openDebugInbox opens what takes requests for debug access, and has news of them reported.
func (l *loop) openDebugInbox() *debuginbox.Inbox {
	a := l.agent
	log := a.options.Log.With().Str("about", "debug access").Logger()
	return debuginbox.New(debuginbox.Options{StateDir: a.options.StateDir, Cell: a.options.Cell,
		Fetch: a.client.FetchDebug, AskSigners: l.askSigners, Now: a.clock.Latest, Log: log,
		OnNews: func(events []cells.Event) {
			if err := l.outbox.Add(events, time.Now()); err != nil {
				log.Warn().Err(err).Msg("news of debug access is not in the cell's history")
			}
			l.reporter.Notify()
		}})
}

// askSigners returns who may ask for debug access by the word of release signers, where the cell has a root of trust.
func (l *loop) askSigners(ctx context.Context) (debuginbox.Signers, error) {
	k := l.signatures
	if !k.Pinned() {
		return debuginbox.Signers{}, nil
	}
	var keys trust.Support
	err := l.askSigned(ctx, func(told trust.Bundle, now time.Time) (err error) {
		keys, err = k.Support(told, now)
		return err
	})
	if err != nil {
		policy, known := k.Kept().State.Policy() // what was verified last holds for what was taken before
		return debuginbox.Signers{Bind: known, Keys: policy.Support}, err
	}
	return debuginbox.Signers{Bind: true, Keys: keys}, nil
}

// saveDeclared keeps what debug sessions may run and read, for the owner and for sessions: the commands of the release
// that is known to work, and its logs with those of a release that is being applied. A failure is tried again when the
// state changes.
func (l *loop) saveDeclared() {
	by := [2]*contents{l.state.Contents, nil}
	if a := l.state.Attempt; a != nil && !a.isUntouched() {
		by[1] = a.Contents
	}
	if l.savedDeclared != nil && by == l.declaredBy {
		return // as nearly always: most changes of the state are of other things
	}
	declared, logs := diagnostics.List{}, diagnostics.Logs{}
	if by[0] != nil && by[0].Diagnostics != nil {
		declared = by[0].Diagnostics
	}
	for _, c := range by {
		if c != nil {
			logs = logs.With(c.Logs)
		}
	}
	text, err := json.Marshal([]any{declared, logs})
	if err != nil {
		return
	}
	if !bytes.Equal(text, l.savedDeclared) {
		folder := debugfolder.Of(l.agent.options.StateDir)
		if err := errors.Join(folder.SaveDeclared(declared), folder.SaveLogs(logs)); err != nil {
			l.agent.options.Log.Warn().Err(err).Msg("the owner and sessions of debug access see older commands and logs")
			return
		}
	}
	l.savedDeclared, l.declaredBy = text, by
}

// readableLogs returns the logs that a debug session may read of a release: those that it declares, and in a cluster
// those of its workloads. It is never nil.
func (l *loop) readableLogs(r *render.Result) diagnostics.Logs {
	logs := diagnostics.Logs{}.With(r.Logs)
	if l.agent.options.PodLogs != nil {
		logs = logs.With(workloadLogs(r.Objects))
	}
	return logs
}

// workloadLogs returns the logs of the workloads among objects, as KIND/NAME, after the namespace if the object names
// one.
func workloadLogs(objects []cells.Object) (logs diagnostics.Logs) {
	groups := diagnostics.WorkloadKinds()
	for _, o := range objects {
		kind := strings.ToLower(o.Kind)
		group, version, hasGroup := strings.Cut(o.APIVersion, "/")
		if !hasGroup {
			group, version = "", group
		}
		if of, known := groups[kind]; !known || of != group || version != "v1" {
			continue
		}
		if !diagnostics.IsObjectName(o.Name) || o.Namespace != "" && !diagnostics.IsObjectName(o.Namespace) {
			continue // the cluster won't take it; the journal must not hold names without a bound
		}
		p := &diagnostics.Pods{Namespace: o.Namespace, Workload: kind + "/" + o.Name}
		logs = append(logs, diagnostics.Log{Name: path.Join(p.Namespace, p.Workload), Pods: p})
	}
	return logs
}
