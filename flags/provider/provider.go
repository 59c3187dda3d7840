// Package provider is the OpenFeature provider for Go. New evaluates the flags of a flags.Source in process. Dial
// follows the agent of the cell and evaluates the agent's flags in process, so that an evaluation costs no request.
//
// The package decides nothing: the agent has decided gates and facts. Results are flagd's. All methods are safe for
// concurrent use and never panic: a failed evaluation returns the caller's default with an error. Without flags the
// provider is not ready; while the agent does not answer, the provider is stale and keeps the last flags.
package provider

import (
	"context"
	"errors"
	"math"
	"sync"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sluice-cd/sluice/flags"
)

// Provider is an openfeature.FeatureProvider with state and events.
type Provider struct {
	source flags.Source
	events chan openfeature.Event
	follow func(ctx context.Context, p *Provider) // keeps the source up to date; nil: not needed

	mu     sync.Mutex // guards the fields below
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutines of Init ended; nil: not started
}

var (
	_ openfeature.FeatureProvider          = (*Provider)(nil)
	_ openfeature.ContextAwareStateHandler = (*Provider)(nil)
	_ openfeature.EventHandler             = (*Provider)(nil)
)

// name is the provider's name in hooks and events.
const name = "sluice"

// New returns a provider for a source in the same process.
func New(source flags.Source) *Provider {
	return &Provider{source: source, events: make(chan openfeature.Event, 8)}
}

// Metadata returns the provider's name.
func (p *Provider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: name} }

// Hooks returns no hooks.
func (p *Provider) Hooks() []openfeature.Hook { return nil }

// EventChannel returns the provider's events: flag changes, and whether the agent answers.
func (p *Provider) EventChannel() <-chan openfeature.Event { return p.events }

// Init is InitWithContext.
func (p *Provider) Init(e openfeature.EvaluationContext) error {
	return p.InitWithContext(context.Background(), e)
}

// InitWithContext waits for the first flags, or Shutdown. It ignores the end of ctx, as the caller stops waiting by
// itself: OpenFeature would turn that into an error state, possibly after the event that flags came, and keep it.
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
			return errors.New("the cell's agent has sent no flags: check that it runs with --flags-listen")
		}
	}
}

// start starts the goroutines that follow the source, once. The channel is closed when they end.
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

// Shutdown ends the goroutines of Init.
func (p *Provider) Shutdown() { _ = p.ShutdownWithContext(context.Background()) }

// ShutdownWithContext ends the goroutines of Init, and waits for them until ctx ends.
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

// emitChanges emits an event for each change.
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
			p.emit(kind, "")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// emit sends an event. If nobody reads events and the channel is full, the oldest is dropped: following the flags never
// waits for a reader, and who reads later learns the newest.
func (p *Provider) emit(kind openfeature.EventType, message string) {
	event := openfeature.Event{
		ProviderName: name, EventType: kind, ProviderEventDetails: openfeature.ProviderEventDetails{Message: message},
	}
	for {
		select {
		case p.events <- event:
			return
		default:
		}
		select {
		case <-p.events:
		default:
		}
	}
}

// BooleanEvaluation evaluates a boolean flag.
func (p *Provider) BooleanEvaluation(
	_ context.Context, flag string, otherwise bool, c openfeature.FlattenedContext,
) openfeature.BoolResolutionDetail {
	return resolve(p, flag, flags.KindBool, otherwise, c)
}

// StringEvaluation evaluates a flag of strings.
func (p *Provider) StringEvaluation(
	_ context.Context, flag, otherwise string, c openfeature.FlattenedContext,
) openfeature.StringResolutionDetail {
	return resolve(p, flag, flags.KindString, otherwise, c)
}

// FloatEvaluation evaluates a flag of numbers.
func (p *Provider) FloatEvaluation(
	_ context.Context, flag string, otherwise float64, c openfeature.FlattenedContext,
) openfeature.FloatResolutionDetail {
	return resolve(p, flag, flags.KindFloat, otherwise, c)
}

// IntEvaluation evaluates a flag of numbers, and cuts off the fraction.
func (p *Provider) IntEvaluation(
	_ context.Context, flag string, otherwise int64, c openfeature.FlattenedContext,
) openfeature.IntResolutionDetail {
	return resolve(p, flag, flags.KindInt, otherwise, c)
}

// ObjectEvaluation evaluates a flag of structures. The value is shared and must not be changed.
func (p *Provider) ObjectEvaluation(
	_ context.Context, flag string, otherwise any, c openfeature.FlattenedContext,
) openfeature.InterfaceResolutionDetail {
	return resolve(p, flag, flags.KindObject, otherwise, c)
}

func resolve[T any](
	p *Provider, flag string, kind flags.Kind, otherwise T, c openfeature.FlattenedContext,
) openfeature.GenericResolutionDetail[T] {
	folded, at := p.source.Current()
	d := openfeature.GenericResolutionDetail[T]{Value: otherwise}
	if folded == nil {
		d.Reason = openfeature.ErrorReason
		d.ResolutionError = openfeature.NewProviderNotReadyResolutionError("the cell's agent has sent no flags yet")
		return d
	}
	r := folded.Evaluate(flag, flags.Context(c), at)
	if r.Error == "" {
		r = r.As(kind)
	}
	d.Reason, d.Variant = openfeature.Reason(r.Reason), r.Variant
	if len(r.Metadata) > 0 { // the client copies even empty metadata
		d.FlagMetadata = typedMetadata(r.Metadata)
	}
	if r.Error != "" {
		d.Variant, d.ResolutionError = "", resolutionError(r.Error, r.Message)
		return d
	}
	if value, ok := r.Value.(T); ok { // nil: the caller's default counts
		d.Value = value
	}
	return d
}

// typedMetadata returns metadata as the SDK's accessors read them: whole numbers are int64.
func typedMetadata(all map[string]any) openfeature.FlagMetadata {
	typed := make(openfeature.FlagMetadata, len(all))
	for name, value := range all {
		if f, ok := value.(float64); ok && f == math.Trunc(f) && math.Abs(f) <= maxExact {
			value = int64(f)
		}
		typed[name] = value
	}
	return typed
}

// maxExact is the greatest whole number up to which every one is a float64 of its own.
const maxExact = 1<<53 - 1

// resolutionError converts an error to OpenFeature's form.
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
