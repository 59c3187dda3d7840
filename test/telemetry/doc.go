// Package telemetry tests exports with the programs of others: OpenTelemetry's SDKs for Go and JavaScript send to a
// cell's agent, and the receiver of the OpenTelemetry Collector is the vendor's end. Agent and control plane are the
// built binary. It is a module of its own, to keep its dependencies out of the main module.
package telemetry
