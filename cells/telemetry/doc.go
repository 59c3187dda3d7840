// Package telemetry turns what a cell's programs measure into lines that may leave the cell. Programs send metrics and
// events as OTLP, or have them scraped as Prometheus text; Rules, made from the list that vendor and owner agreed to,
// let names, labels and values through that the list names, and nothing else, whatever comes in; and an Aggregate makes
// of it one point of each series a minute.
//
// The package is pure: it is handed bytes and instants, and does no I/O. An Aggregate belongs to one goroutine at a
// time. Rules are immutable.
package telemetry
