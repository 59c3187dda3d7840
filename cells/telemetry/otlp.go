package telemetry

import (
	"errors"
	"hash/maphash"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-cd/sluice/releases/export"
)

// maxMessage bounds one data point or one log record on the wire, in bytes. Only one is decoded at a time, and only if
// a list names it, so that a small request can't become much memory.
const maxMessage = 64 << 10

// maxPoints bounds the data points and log records of a request.
const maxPoints = 50_000

var errMalformed = errors.New("the body is no OTLP: send an export request as protobuf")

// AddOTLPMetrics takes in an ExportMetricsServiceRequest. What is before a fault counts.
func (a *Aggregate) AddOTLPMetrics(body []byte, now time.Time) error {
	return a.eachMessage(body, func(from uint64, metric []byte) error {
		name, err := stringField(metric, 1)
		switch {
		case err != nil:
			return err
		case !a.rules.WantsMetric(name):
			a.Drop(Unlisted)
			return nil
		}
		d := decoder{a: a, sample: Sample{Name: name, Source: from}, now: now}
		return errors.Join(
			eachField(metric, 5, func(data []byte) error { return d.addNumbers(data, export.Gauge) }),
			eachField(metric, 7, d.addSum),
			eachField(metric, 9, d.addHistogram),
			eachField(metric, 10, d.refuse), // an exponential histogram
			eachField(metric, 11, d.refuse), // a summary
		)
	})
}

// AddOTLPEvents takes in an ExportLogsServiceRequest. A record is an event if it has a name; its body stays.
func (a *Aggregate) AddOTLPEvents(body []byte, now time.Time) error {
	const eventName = 12 // LogRecord.event_name
	return a.eachMessage(body, func(_ uint64, text []byte) error {
		switch kind, err := stringField(text, eventName); {
		case err != nil:
			return err
		case !a.rules.WantsEvent(kind):
			a.Drop(Unlisted)
			return nil
		}
		var r logspb.LogRecord
		if !a.decode(text, &r) {
			return nil
		}
		attributes := map[string]any{}
		for _, kv := range r.Attributes {
			if _, there := attributes[kv.GetKey()]; !there {
				attributes[kv.GetKey()] = plainValue(kv.GetValue())
			}
		}
		a.AddEvent(r.EventName, attributes, now)
		return nil
	})
}

// decode decodes a data point or a log record, and reports whether it is any good.
func (a *Aggregate) decode(text []byte, into proto.Message) bool {
	a.points++
	switch {
	case a.points > maxPoints:
		a.Drop(TooMany)
		return false
	case len(text) > maxMessage:
		a.Drop(Malformed)
		return false
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 32}).Unmarshal(text, into); err != nil {
		a.Drop(Malformed)
		return false
	}
	return true
}

// eachMessage calls do for each metric, or log record, of a request. Both are two levels below it, in fields of the
// same numbers. from tells apart the resources that they are of.
func (a *Aggregate) eachMessage(body []byte, do func(from uint64, text []byte) error) error {
	a.points = 0
	return eachField(body, 1, func(resource []byte) error {
		var from uint64
		if err := eachField(resource, 1, func(text []byte) error {
			from = maphash.Bytes(a.seed, text)
			return nil
		}); err != nil {
			return err
		}
		return eachField(resource, 2, func(scope []byte) error {
			return eachField(scope, 2, func(text []byte) error { return do(from, text) })
		})
	})
}

// eachField calls do for each field of a message that has the number, and holds bytes.
func eachField(message []byte, number protowire.Number, do func([]byte) error) error {
	for len(message) > 0 {
		n, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return errMalformed
		}
		message = message[length:]
		if n == number && kind == protowire.BytesType {
			text, length := protowire.ConsumeBytes(message)
			if length < 0 {
				return errMalformed
			}
			if err := do(text); err != nil {
				return err
			}
			message = message[length:]
			continue
		}
		if length = protowire.ConsumeFieldValue(n, kind, message); length < 0 {
			return errMalformed
		}
		message = message[length:]
	}
	return nil
}

// ReadPartialSuccess returns how many points or records an OTLP endpoint left out of a request that it accepted, by its
// answer, and why. The answers for metrics and for logs have the same fields.
func ReadPartialSuccess(answer []byte) (rejected int64, why string) {
	_ = eachField(answer, 1, func(partial []byte) error { // a malformed answer rejects nothing
		n, err := numberField(partial, 1)
		if err == nil {
			rejected = int64(n)
			err = eachField(partial, 2, func(text []byte) error { why = string(text); return nil })
		}
		return err
	})
	return rejected, why
}

// numberField returns the last number of a field; 0: there is none.
func numberField(message []byte, number protowire.Number) (value uint64, err error) {
	for len(message) > 0 {
		n, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return 0, errMalformed
		}
		message = message[length:]
		if n == number && kind == protowire.VarintType {
			value, _ = protowire.ConsumeVarint(message)
		}
		if length = protowire.ConsumeFieldValue(n, kind, message); length < 0 {
			return 0, errMalformed
		}
		message = message[length:]
	}
	return value, nil
}

func stringField(message []byte, number protowire.Number) (text string, err error) {
	err = eachField(message, number, func(b []byte) error {
		text = string(b)
		return nil
	})
	return text, err
}

// decoder takes in one metric, a data point at a time.
type decoder struct {
	a      *Aggregate
	sample Sample // what all of the metric's points have
	now    time.Time
	labels []Label // of one point; kept for its room
}

func (d *decoder) refuse([]byte) error {
	d.a.Drop(WrongType)
	return nil
}

func (d *decoder) addSum(data []byte) error {
	known, err := d.setTemporality(data)
	if err != nil {
		return err
	}
	monotonic, err := numberField(data, 3)
	switch {
	case err != nil:
		return err
	case !known || monotonic == 0 && d.sample.Delta: // what it is now can't be known
		d.a.Drop(Temporality)
		return nil
	case monotonic == 0:
		return d.addNumbers(data, export.Gauge)
	}
	return d.addNumbers(data, export.Counter)
}

func (d *decoder) setTemporality(data []byte) (known bool, err error) {
	number, err := numberField(data, 2)
	t := metricspb.AggregationTemporality(number)
	d.sample.Delta = t == metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
	return d.sample.Delta || t == metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE, err
}

func (d *decoder) addNumbers(data []byte, kind export.Type) error {
	var p metricspb.NumberDataPoint // of each in turn
	return eachField(data, 1, func(text []byte) error {
		if !d.a.decode(text, &p) || isNoValue(p.GetFlags()) {
			return nil
		}
		s := d.sample
		s.Type, s.Labels, s.Start = kind, d.labelsOf(p.GetAttributes()), instant(p.GetStartTimeUnixNano())
		s.Value = p.GetAsDouble()
		if i, ok := p.Value.(*metricspb.NumberDataPoint_AsInt); ok {
			s.Value = float64(i.AsInt)
		}
		d.a.Add(&s, d.now)
		return nil
	})
}

func (d *decoder) addHistogram(data []byte) error {
	known, err := d.setTemporality(data)
	switch {
	case err != nil:
		return err
	case !known:
		d.a.Drop(Temporality)
		return nil
	}
	var p metricspb.HistogramDataPoint // of each in turn
	return eachField(data, 1, func(text []byte) error {
		if !d.a.decode(text, &p) || isNoValue(p.GetFlags()) {
			return nil
		}
		s := d.sample
		s.Type, s.Labels, s.Start = export.Histogram, d.labelsOf(p.GetAttributes()), instant(p.GetStartTimeUnixNano())
		s.Count, s.Sum, s.Bounds, s.Buckets = p.GetCount(), p.GetSum(), p.GetExplicitBounds(), p.GetBucketCounts()
		d.a.Add(&s, d.now)
		return nil
	})
}

func isNoValue(flags uint32) bool {
	return flags&uint32(metricspb.DataPointFlags_DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK) != 0
}

func instant(nanoseconds uint64) time.Time {
	if nanoseconds == 0 || nanoseconds > 1<<62 {
		return time.Time{}
	}
	return time.Unix(0, int64(nanoseconds))
}

// labelsOf returns the labels of a point, until the next point's.
func (d *decoder) labelsOf(attributes []*commonpb.KeyValue) []Label {
	d.labels = d.labels[:0]
	for _, kv := range attributes {
		text, isText := kv.GetValue().GetValue().(*commonpb.AnyValue_StringValue)
		if isText {
			d.labels = append(d.labels, Label{kv.GetKey(), text.StringValue})
			continue
		}
		d.labels = append(d.labels, Label{kv.GetKey(), asText(plainValue(kv.GetValue()))})
	}
	return d.labels
}

// plainValue returns a string, an int64, a float64 or a bool; nil for anything else.
func plainValue(v *commonpb.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_IntValue:
		return v.IntValue
	case *commonpb.AnyValue_DoubleValue:
		return v.DoubleValue
	case *commonpb.AnyValue_BoolValue:
		return v.BoolValue
	}
	return nil
}
