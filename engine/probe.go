package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

// Prober answers probes from outside. It always returns an observation: what can't be found out does not hold.
type Prober interface {
	Observe(ctx context.Context, p plan.Probe, now time.Time) plan.Observation
}

// HTTPProber probes by HTTP. It follows no redirects, and reads at most 1 MiB of a body.
type HTTPProber struct {
	Client *http.Client // nil: a client with the limits that a gate needs
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
		o.Value, err = h.probeMetric(ctx, p)
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
	status, body, err := h.fetch(ctx, expandTemplate(p.Check.URL, p, url.QueryEscape), p.Check.Timeout)
	if err != nil {
		return "", err
	}
	if status < 200 || status > 299 {
		return "", fmt.Errorf("answered %d: %s", status, quoteBody(body))
	}
	return fmt.Sprintf("answered %d", status), nil
}

// probeMetric queries an instant vector or a scalar with exactly one finite value (R11).
func (h HTTPProber) probeMetric(ctx context.Context, p plan.Probe) (string, error) {
	m := p.Metric
	escape := func(s string) string { return strings.Trim(strconv.Quote(s), `"`) }
	query := url.Values{"query": {expandTemplate(m.Query, p, escape)}}
	status, body, err := h.fetch(ctx, strings.TrimRight(m.Prometheus, "/")+"/api/v1/query?"+query.Encode(), m.Timeout)
	if err != nil {
		return "", err
	}
	value, err := prometheusValue(status, body)
	if err != nil {
		return "", err
	}
	return judgeValue(m, value)
}

func judgeValue(m *channels.Metric, value float64) (string, error) {
	text := strconv.FormatFloat(value, 'g', 6, 64)
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0):
		return "", fmt.Errorf("the value is %s", text)
	case m.Below != nil && value >= *m.Below:
		return "", fmt.Errorf("%s is not below %g", text, *m.Below)
	case m.Above != nil && value <= *m.Above:
		return "", fmt.Errorf("%s is not above %g", text, *m.Above)
	}
	return text, nil
}

func prometheusValue(status int, body []byte) (float64, error) {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Type   string          `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("answered %d, which is not Prometheus's JSON: %s", status, quoteBody(body))
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("answered %d: %s", status, quoteBody([]byte(answer.Error)))
	}
	var pair [2]any
	switch answer.Data.Type {
	case "scalar":
		if err := json.Unmarshal(answer.Data.Result, &pair); err != nil {
			return 0, fmt.Errorf("read the scalar: %w", err)
		}
	case "vector":
		var vector []struct {
			Value [2]any `json:"value"`
		}
		if err := json.Unmarshal(answer.Data.Result, &vector); err != nil {
			return 0, fmt.Errorf("read the vector: %w", err)
		}
		if len(vector) != 1 {
			return 0, fmt.Errorf("the query returned %d values; it must return one", len(vector))
		}
		pair = vector[0].Value
	default:
		return 0, fmt.Errorf("the query returned a %s; it must return one value", answer.Data.Type)
	}
	text, ok := pair[1].(string)
	if !ok {
		return 0, errors.New("the value is not a string, as Prometheus returns")
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("the value is not a number: %w", err)
	}
	return value, nil
}

func (h HTTPProber) fetch(
	ctx context.Context, address string, timeout time.Duration,
) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("send the request: %w", err)
	}
	req.Header.Set("User-Agent", "sluice")
	client := h.Client
	if client == nil {
		client = &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return 0, nil, fmt.Errorf("no answer within %s", timeout)
		}
		return 0, nil, fmt.Errorf("send the request: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes))
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	return resp.StatusCode, body, nil
}

// expandTemplate replaces {release}, {digest} and {channel} in a gate's URL or query.
func expandTemplate(s string, p plan.Probe, escape func(string) string) string {
	return strings.NewReplacer(
		"{release}", escape(p.Release), "{digest}", escape(string(p.Subject)), "{channel}", escape(p.Channel),
	).Replace(s)
}

func quoteBody(body []byte) string {
	s := strings.ToValidUTF8(strings.Join(strings.Fields(string(body)), " "), "?")
	if len(s) > maxQuotedBytes {
		s = s[:maxQuotedBytes] + "…"
	}
	return strconv.Quote(s)
}
