#!/bin/sh
# run.sh PAGE [SWEEP FLAG...]: train the study's sweeps, as far as they are not
# done, and write the page about them from the store. Of the environment:
# STUDY_DATA, a prepared dataset; STUDY_STORE; JOBS, runs at a time.
set -eu
here=$(dirname "$0")
page=$1
shift
name=$(basename "$page" .md)
mkdir -p "$(dirname "$page")"
for model in lstm gpt; do
	koala-lm sweep "$here/$model.yaml" --data "$STUDY_DATA" --store "$STUDY_STORE" --jobs "$JOBS" --format csv "$@" >/dev/null
done
{
	cat "$here/preface.md"
	cd "$(dirname "$page")"
	for model in lstm gpt; do
		echo
		koala-lm report sweep "$model" --store "$STUDY_STORE" --format md --plots "$name"
	done
} >"$page.new"
mv "$page.new" "$page"
