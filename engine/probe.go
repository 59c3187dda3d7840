package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/internal/words"
)

// Prober answers probes from outside. It always returns an observation: what can't be found out does not hold.
type Prober interface {
	Observe(ctx context.Context, p plan.Probe, now time.Time) plan.Observation
}

// HTTPProber probes by HTTP where its list allows (R53). It follows no redirects, and reads at most 1 MiB of a body.
// What a host answers is quoted only if the list has that host by itself: reasons are for more people than may ask the
// host.
type HTTPProber struct {
	reach   reach.List
	client  *http.Client
	exports Exports
}

// Exports judges metrics of gates by what cells exported last.
type Exports interface {
	// JudgeMetric returns what the cells' values are, in words, or why they do not do.
	JudgeMetric(ctx context.Context, m *channels.Metric, of []plan.ProbedCell, now time.Time) (string, error)
}

// NewHTTPProber returns a prober that asks where the list allows, and e about what cells exported.
func NewHTTPProber(list reach.List, e Exports) HTTPProber {
	return HTTPProber{list, list.Client(reach.Options{}), e}
}

const (
	maxResponseBytes = 1 << 20
	maxQuotedBytes   = 200
	probeRetryAfter  = 15 * time.Second // how long a failed probe counts, so that a broken server isn't hammered
)

// Observe runs p.
func (h HTTPProber) Observe(ctx context.Context, p plan.Probe, now time.Time) plan.Observation {
	o := plan.Observation{
		Channel: p.Channel, Gate: p.Gate, Subject: string(p.Subject), Policy: p.Policy, ObservedAt: now.UTC(),
	}
	var validFor time.Duration
	var err error
	switch {
	case p.Check != nil:
		validFor = p.Check.ValidFor
		o.Value, err = h.probeCheck(ctx, p)
	case p.Metric != nil:
		validFor = p.Metric.ValidFor
		if p.Metric.Exported != "" {
			o.Value, err = h.probeExported(ctx, p, now)
		} else {
			o.Value, err = h.probeMetric(ctx, p)
		}
	default:
		err = errors.New("the gate has nothing to probe")
	}
	o.Holds = err == nil
	if err != nil {
		o.Reason = words.OneLine(err.Error())
		validFor = min(validFor, probeRetryAfter)
	}
	o.ValidUntil = now.Add(validFor).UTC()
	return o
}

func (h HTTPProber) probeCheck(ctx context.Context, p plan.Probe) (string, error) {
	r, err := h.fetch(ctx, expandTemplate(p.Check.URL, p, url.QueryEscape), p.Check.Timeout)
	if err != nil {
		return "", err
	}
	if r.status < 200 || r.status > 299 {
		return "", fmt.Errorf("answered %d%s", r.status, r.quote(string(r.body)))
	}
	return fmt.Sprintf("answered %d", r.status), nil
}

// probeMetric queries an instant vector or a scalar with exactly one finite value (R11).
func (h HTTPProber) probeMetric(ctx context.Context, p plan.Probe) (string, error) {
	m := p.Metric
	escape := func(s string) string { return strings.Trim(strconv.Quote(s), `"`) }
	query := url.Values{"query": {expandTemplate(m.Query, p, escape)}}
	r, err := h.fetch(ctx, strings.TrimRight(m.Prometheus, "/")+"/api/v1/query?"+query.Encode(), m.Timeout)
	if err != nil {
		return "", err
	}
	value, err := r.prometheusValue()
	if err != nil {
		return "", err
	}
	return m.Compare(value)
}

func (h HTTPProber) probeExported(ctx context.Context, p plan.Probe, now time.Time) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Metric.Timeout)
	defer cancel()
	value, err := h.exports.JudgeMetric(ctx, p.Metric, p.Cells, now)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return "", fmt.Errorf("what cells exported could not be read within %s", p.Metric.Timeout)
	}
	return value, err
}

// probeResponse is a host's answer.
type probeResponse struct {
	status int
	body   []byte
	shown  bool // what it says may be quoted
}

// quote returns a part of the answer for a reason, after what is said of it.
func (r probeResponse) quote(text string) string {
	if !r.shown {
		return "; what it says is shown only of hosts that --gates-reach lists"
	}
	return ": " + strconv.Quote(words.Clip(strings.Join(strings.Fields(text), " "), maxQuotedBytes))
}

func (r probeResponse) prometheusValue() (float64, error) {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		// a part of the data could not be read: Prometheus, Thanos and Mimir warn, VictoriaMetrics marks the answer
		Warnings []string `json:"warnings"`
		Partial  bool     `json:"isPartial"`
		Data     struct {
			Type   string          `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(r.body, &answer); err != nil {
		return 0, fmt.Errorf("answered %d, which is not Prometheus's JSON%s", r.status, r.quote(string(r.body)))
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("answered %d%s", r.status, r.quote(answer.Error))
	}
	if answer.Partial || len(answer.Warnings) > 0 {
		return 0, fmt.Errorf("the answer may lack a part of the data%s", r.quote(strings.Join(answer.Warnings, "; ")))
	}
	var pair [2]any
	switch answer.Data.Type {
	case "scalar":
		if json.Unmarshal(answer.Data.Result, &pair) != nil {
			return 0, errors.New("the scalar is not one that Prometheus returns")
		}
	case "vector":
		var vector []struct {
			Value [2]any `json:"value"`
		}
		if json.Unmarshal(answer.Data.Result, &vector) != nil {
			return 0, errors.New("the vector is not one that Prometheus returns")
		}
		if len(vector) != 1 {
			return 0, fmt.Errorf("the query returned %d values; it must return one", len(vector))
		}
		pair = vector[0].Value
	case "matrix", "string":
		return 0, fmt.Errorf("the query returned a %s; it must return one value", answer.Data.Type)
	default:
		return 0, errors.New("the query returned no type that Prometheus has")
	}
	text, ok := pair[1].(string)
	if !ok {
		return 0, errors.New("the value is not a string, as Prometheus returns")
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("the value is not a number%s", r.quote(text))
	}
	return value, nil
}

func (h HTTPProber) fetch(ctx context.Context, address string, timeout time.Duration) (probeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return probeResponse{}, errors.New("send the request: the gate's URL is none") // the cause would show it
	}
	req.Header.Set("User-Agent", "sluice")
	resp, err := h.client.Do(req)
	if err != nil {
		return probeResponse{}, explainProbeError(ctx, err, req.URL.Hostname(), timeout)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	r := probeResponse{status: resp.StatusCode, shown: h.reach.Lists(req.URL.Hostname())}
	r.body, err = io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes))
	if err != nil {
		return r, explainProbeError(ctx, err, req.URL.Hostname(), timeout)
	}
	return r, nil
}

// explainProbeError says why there is no answer, without the URL, which may hold a password, and without what the host
// resolved to.
func explainProbeError(ctx context.Context, err error, host string, timeout time.Duration) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err
	}
	unknown := new(net.DNSError)
	switch {
	case ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", timeout)
	case errors.Is(err, reach.ErrOutside):
		return fmt.Errorf("%s is not where gates may ask: sluice serve --gates-reach lists that", host)
	case errors.As(err, &unknown):
		return fmt.Errorf("the host %s is unknown", host)
	}
	return fmt.Errorf("send the request: %w", err)
}

// expandTemplate replaces {release}, {digest} and {channel} in a gate's URL or query.
func expandTemplate(s string, p plan.Probe, escape func(string) string) string {
	return strings.NewReplacer(
		"{release}", escape(p.Release), "{digest}", escape(string(p.Subject)), "{channel}", escape(p.Channel),
	).Replace(s)
}
