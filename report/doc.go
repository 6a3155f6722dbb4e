// Package report presents what a tracking.Store holds: tables for terminals,
// pipes and documents, charts, pages and exports. It reads only through package
// tracking and writes only to the writers it is given.
//
// A presentation is first built as data, a [Table] or a [Record], and then
// rendered in the format asked for, so that every format shows the same.
package report
