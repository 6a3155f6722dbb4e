#!/bin/sh
# run.sh PAGE [--set KEY=VALUE ...]: train what the study's sweeps have left to
# train, and write PAGE about them from the store. Of the environment:
# STUDY_DATA, a prepared dataset; STUDY_STORE; JOBS, how many runs at a time.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
page=$1
shift
mkdir -p "$(dirname "$page")"
page=$(realpath "$(dirname "$page")")/$(basename "$page")
store=$(realpath -m "$STUDY_STORE")
for sweep in lstm gpt lstm-long; do
	koala-lm sweep "$here/$sweep.yaml" "$@" --data "$STUDY_DATA" --store "$store" --jobs "$JOBS" --format csv >/dev/null
done
(
	cat "$here/preface.md"
	cd "$(dirname "$page")" # the page names its pictures from there
	for sweep in LSTM GPT LSTM-long; do
		echo
		koala-lm report sweep "$sweep" --store "$store" --format md --plots "$(basename "$page" .md)"
	done
) >"$page.new"
mv "$page.new" "$page"
echo "$page" >&2
