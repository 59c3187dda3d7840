// Package provider is the OpenFeature provider for Go: New evaluates a flags.Source's flags in process, Dial follows the agent of the
// cell and evaluates its flags in process, so that an evaluation costs no request.
//
// It decides nothing: gates and the cell's facts are settled by the agent. Results are flagd's. Its methods are safe for
// concurrent use, and never panic: an evaluation that can't be made gives the caller's default and says why. While nothing is
// known it is not ready; while the agent can't be reached it is stale, and goes on with what it knew.
package provider

import (
	"context"
	"errors"
	"sync"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sluice-cd/sluice/flags"
)

// Provider is an openfeature.FeatureProvider that has a state and events.
type Provider struct {
	source flags.Source
	events chan openfeature.Event
	follow func(ctx context.Context, p *Provider) // keeps the source up to date; nil: it does so itself

	mu     sync.Mutex // guards what follows
	cancel context.CancelFunc
	done   chan struct{} // closed when what Init began is over; nil: nothing was begun
}

var (
	_ openfeature.FeatureProvider          = (*Provider)(nil)
	_ openfeature.ContextAwareStateHandler = (*Provider)(nil)
	_ openfeature.EventHandler             = (*Provider)(nil)
)

// name is the provider's, as hooks and events have it.
const name = "sluice"

// New makes a provider of a source in the same process.
func New(source flags.Source) *Provider {
	return &Provider{source: source, events: make(chan openfeature.Event, 8)}
}

// Metadata gives the provider's name.
func (p *Provider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: name} }

// Hooks gives none.
func (p *Provider) Hooks() []openfeature.Hook { return nil }

// EventChannel gives what happens: a change, and the agent's coming and going.
func (p *Provider) EventChannel() <-chan openfeature.Event { return p.events }

// Init is InitWithContext.
func (p *Provider) Init(e openfeature.EvaluationContext) error {
	return p.InitWithContext(context.Background(), e)
}

// InitWithContext waits for the first flags, or Shutdown. It does not end with ctx, as who waits for it does: OpenFeature would
// make an error of that, and might take it in after the news that flags came, for good.
func (p *Provider) InitWithContext(ctx context.Context, _ openfeature.EvaluationContext) error {
	ended := p.start(ctx)
	for {
		changed := p.source.Changed()
		if f, _ := p.source.Current(); f != nil {
			return nil
		}
		select {
		case <-changed:
		case <-ended:
			return errors.New("no flags came from the cell's agent: is it running, and does it listen for flags?")
		}
	}
}

// start follows the source, unless that was begun. It gives what is closed when that is over.
func (p *Provider) start(ctx context.Context) (ended <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done != nil {
		return p.done
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel, p.done = end, make(chan struct{})
	var all sync.WaitGroup
	if p.follow != nil {
		all.Go(func() { p.follow(life, p) })
	}
	all.Go(func() { p.emitChanges(life) })
	go func(ended chan<- struct{}) {
		all.Wait()
		close(ended)
	}(p.done)
	return p.done
}

// Shutdown ends what Init began.
func (p *Provider) Shutdown() { _ = p.ShutdownWithContext(context.Background()) }

// ShutdownWithContext ends what Init began, and waits for it until ctx ends.
func (p *Provider) ShutdownWithContext(ctx context.Context) error {
	p.mu.Lock()
	end, ended := p.cancel, p.done
	p.cancel, p.done = nil, nil
	p.mu.Unlock()
	if ended == nil {
		return nil
	}
	end()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// emitChanges makes an event of each change.
func (p *Provider) emitChanges(ctx context.Context) {
	known := ""
	for {
		changed := p.source.Changed()
		if f, _ := p.source.Current(); f != nil && f.Revision() != known {
			kind := openfeature.ProviderConfigChange
			if known == "" {
				kind = openfeature.ProviderReady
			}
			known = f.Revision()
			p.emit(ctx, kind, "")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// emit emits an event, once there is room for it.
func (p *Provider) emit(ctx context.Context, kind openfeature.EventType, message string) {
	select {
	case p.events <- openfeature.Event{ProviderName: name, EventType: kind, ProviderEventDetails: openfeature.ProviderEventDetails{Message: message}}:
	case <-ctx.Done():
	}
}

// BooleanEvaluation gives what a flag of true and false is.
func (p *Provider) BooleanEvaluation(_ context.Context, flag string, otherwise bool, c openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return resolve(p, flag, flags.KindBool, otherwise, c)
}

// StringEvaluation gives what a flag of texts is.
func (p *Provider) StringEvaluation(_ context.Context, flag, otherwise string, c openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return resolve(p, flag, flags.KindString, otherwise, c)
}

// FloatEvaluation gives what a flag of numbers is.
func (p *Provider) FloatEvaluation(_ context.Context, flag string, otherwise float64, c openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return resolve(p, flag, flags.KindFloat, otherwise, c)
}

// IntEvaluation gives what a flag of numbers is, without what follows the point.
func (p *Provider) IntEvaluation(_ context.Context, flag string, otherwise int64, c openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return resolve(p, flag, flags.KindInt, otherwise, c)
}

// ObjectEvaluation gives what a flag of structures is. The value is shared: it must not be changed.
func (p *Provider) ObjectEvaluation(_ context.Context, flag string, otherwise any, c openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	return resolve(p, flag, flags.KindObject, otherwise, c)
}

func resolve[T any](p *Provider, flag string, kind flags.Kind, otherwise T, c openfeature.FlattenedContext) openfeature.GenericResolutionDetail[T] {
	folded, at := p.source.Current()
	d := openfeature.GenericResolutionDetail[T]{Value: otherwise}
	if folded == nil {
		d.Reason, d.ResolutionError = openfeature.ErrorReason, openfeature.NewProviderNotReadyResolutionError("no flags came from the cell's agent yet")
		return d
	}
	r := folded.Evaluate(flag, flags.Context(c), at)
	if r.Error == "" {
		r = r.As(kind)
	}
	d.Reason, d.Variant = openfeature.Reason(r.Reason), r.Variant
	if len(r.Metadata) > 0 { // the client copies even what is empty
		d.FlagMetadata = r.Metadata
	}
	if r.Error != "" {
		d.Variant, d.ResolutionError = "", resolutionError(r.Error, r.Message)
		return d
	}
	if value, ok := r.Value.(T); ok { // nil: the caller's own default counts
		d.Value = value
	}
	return d
}

// resolutionError gives an error as OpenFeature has it.
func resolutionError(code flags.ErrorCode, message string) openfeature.ResolutionError {
	switch code {
	case flags.ErrorFlagNotFound:
		return openfeature.NewFlagNotFoundResolutionError(message)
	case flags.ErrorParse:
		return openfeature.NewParseErrorResolutionError(message)
	case flags.ErrorTypeMismatch:
		return openfeature.NewTypeMismatchResolutionError(message)
	case flags.ErrorInvalidContext:
		return openfeature.NewInvalidContextResolutionError(message)
	default:
		return openfeature.NewGeneralResolutionError(message)
	}
}
