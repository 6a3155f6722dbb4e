package tracking

import _ "embed"

// The statements. One file each, so that they can be read, and tried in the
// sqlite3 shell, as SQL.
var (
	//go:embed sql/identity.sql
	identitySQL string
	//go:embed sql/run_insert.sql
	runInsertSQL string
	//go:embed sql/setting_insert.sql
	settingInsertSQL string
	//go:embed sql/tag_insert.sql
	tagInsertSQL string
	//go:embed sql/event_insert.sql
	eventInsertSQL string
	//go:embed sql/metric_id.sql
	metricIDSQL string
	//go:embed sql/point_insert.sql
	pointInsertSQL string
	//go:embed sql/summary_upsert.sql
	summaryUpsertSQL string
	//go:embed sql/run_progress.sql
	runProgressSQL string
	//go:embed sql/run_finish.sql
	runFinishSQL string
	//go:embed sql/run_state.sql
	runStateSQL string
	//go:embed sql/points_delete_after.sql
	pointsDeleteAfterSQL string
	//go:embed sql/summaries_delete.sql
	summariesDeleteSQL string
	//go:embed sql/summaries_rebuild.sql
	summariesRebuildSQL string
	//go:embed sql/points_extent.sql
	pointsExtentSQL string
	//go:embed sql/run_resume.sql
	runResumeSQL string
	//go:embed sql/summaries.sql
	summariesSQL string
	//go:embed sql/runs.sql
	runsSQL string
	//go:embed sql/runs_settings.sql
	runsSettingsSQL string
	//go:embed sql/runs_summaries.sql
	runsSummariesSQL string
	//go:embed sql/runs_tags.sql
	runsTagsSQL string
	//go:embed sql/run_detail.sql
	runDetailSQL string
	//go:embed sql/run_events.sql
	runEventsSQL string
	//go:embed sql/ref_best.sql
	refBestSQL string
	//go:embed sql/ref_id.sql
	refIDSQL string
	//go:embed sql/ref_name.sql
	refNameSQL string
	//go:embed sql/ref_latest.sql
	refLatestSQL string
	//go:embed sql/ref_prefix.sql
	refPrefixSQL string
	//go:embed sql/id_neighbours.sql
	idNeighboursSQL string
)
