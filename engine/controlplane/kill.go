package controlplane

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/flags"
)

// Killer turns flags off.
type Killer interface {
	// Kill is durable when it returns; cells are told at once, whatever is wrong with any repository (R43).
	Kill(ctx context.Context, o flags.Override) error
}

// toldWithin is how long a kill's answer waits for cells to be told.
const toldWithin = 2 * time.Second

// NewKill turns a flag off.
type NewKill struct {
	Reason string    `json:"reason" minLength:"1" maxLength:"500" doc:"one line, for everyone who wonders"`
	Until  time.Time `json:"until,omitzero" doc:"when somebody should look at it again: nothing ends by itself"`
}

// Killed is what became of a kill.
type Killed struct {
	FlagKill
	Told      int    `json:"told" doc:"cells that are told, as soon as they are connected"`
	Connected int    `json:"connected" doc:"of those, the ones that are heard of"`
	Warning   string `json:"warning,omitempty" doc:"what is odd about it, and what to do"`
}

type killInput struct {
	Key  string `path:"key" doc:"a flag"`
	Body NewKill
}

type killOutput struct {
	Status int
	Body   Killed
}

// kill keeps a kill and has cells told. It reads nothing of the flags repository before: that may be what is broken.
func (s *Server) kill(ctx context.Context, in *killInput) (*killOutput, error) {
	if s.opts.Flags == nil {
		return nil, huma.Error404NotFound(noFlags)
	}
	if err := flags.CheckKey(in.Key); err != nil {
		return nil, huma.Error422UnprocessableEntity("This is no flag's key: "+err.Error()+".", &huma.ErrorDetail{Location: "path.key", Message: err.Error()})
	}
	reason := strings.Join(strings.Fields(in.Body.Reason), " ")
	if reason == "" {
		return nil, huma.Error422UnprocessableEntity("Say why.", &huma.ErrorDetail{Location: "body.reason", Message: "a line of text"})
	}
	o := flags.Override{Kind: flags.Kill, Flag: in.Key, Reason: reason, By: callerOf(ctx).name, Until: in.Body.Until.UTC().Truncate(time.Second)}
	if err := s.audit(ctx, "kill the flag "+in.Key+": "+reason); err != nil {
		return nil, err
	}
	if err := s.opts.Flags.Kill(ctx, o); err != nil {
		return nil, s.explained(err, "kill the flag "+in.Key)
	}
	return s.untilTold(ctx, o), nil
}

// untilTold answers once cells are told of a kill, or says that they are not yet.
func (s *Server) untilTold(ctx context.Context, o flags.Override) *killOutput {
	ctx, cancel := context.WithTimeout(ctx, toldWithin)
	defer cancel()
	for {
		changed := s.opts.Views.Changed()
		v := s.opts.Views.View()
		if v != nil && v.Flags != nil {
			if out, ok := killedIn(newLamps(v), o); ok {
				return out
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			out := &killOutput{Status: http.StatusAccepted, Body: Killed{FlagKill: FlagKill{Flag: o.Flag, Reason: o.Reason, By: o.By, Until: o.Until}}}
			out.Body.Warning = "It is kept, and cells are told as soon as this control plane gets to it: look at /v1/flags/" + o.Flag + ", and at the log of sluice serve."
			return out
		}
	}
}

// killedIn is what is known of a kill in a view; ok is false if the view is from before it.
func killedIn(b *lamps, o flags.Override) (out *killOutput, ok bool) {
	kills := b.kills(o.Flag)
	i := slices.IndexFunc(kills, func(k FlagKill) bool { return k.Reason == o.Reason && k.By == o.By && k.Until.Equal(o.Until) })
	if i < 0 {
		return nil, false
	}
	out = &killOutput{Status: http.StatusOK, Body: Killed{FlagKill: kills[i]}}
	for name, told := range b.f.Told {
		if _, there := b.killed(told)[o.Flag]; there {
			out.Body.Told++
			if !b.offline(name) {
				out.Body.Connected++
			}
		}
	}
	switch {
	case b.f.Tip == nil:
		out.Body.Warning = "The flags repository has not been read, so that whether there is such a flag is not known."
	case b.definition(o.Flag) == nil:
		out.Body.Warning = "The flags repository has no such flag: if the key is misspelt, kill the right one. This kill stays until its file is removed."
	}
	return out, true
}
