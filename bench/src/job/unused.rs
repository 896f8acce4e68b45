//! Unused: fio's options that have no effect here, and why.
//!
//! An option that says where a job runs, through which engine, or what is printed makes no difference to what is
//! measured: it is accepted, ignored and listed. An option that would change the measurement is accepted only with a
//! value that changes nothing (its default), and rejected otherwise.

use super::error::Origin;

/// An option that was given and has no effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ignored {
    /// Where it was given.
    pub origin: Origin,
    /// Its name.
    pub option: String,
    /// Its value.
    pub value: String,
    /// Why it makes no difference.
    pub why: &'static str,
}

/// Options of fio's that have no effect here.
pub struct UnusedSpec {
    /// Their names, with blanks between them.
    names: &'static str,
    values: Values,
    why: &'static str,
}

/// Which values are ignored; others are rejected.
enum Values {
    Any,
    /// These, with blanks between them. An option without a value is none of them: it is a flag that is set.
    Only(&'static str),
}

const fn ignored(why: &'static str, names: &'static str) -> UnusedSpec {
    UnusedSpec { names, values: Values::Any, why }
}

/// Options that are rejected unless they have one of the values, which are no different from leaving the option out.
const fn rejected(why: &'static str, values: &'static str, names: &'static str) -> UnusedSpec {
    UnusedSpec { names, values: Values::Only(values), why }
}

const IS_DEFAULT: &str = "with this value it does nothing";
const ENGINE: &str = "all jobs go through the store's own I/O";
const ENGINES: &str = "this engine does something else than reading and writing data, or is not one of fio's";
const OFF: &str = "0";

/// fio's engines whose operations are reads, writes and trims of data.
const DATA_ENGINES: &str = "cpp_null dev-dax dfs external gfapi gfapi_async guasi http ime_aio ime_psync ime_psyncv io_uring \
         io_uring_cmd libaio libblkio libcufile libhdfs libhipfile libiscsi libpmem libzbc linux-aio mmap \
         mtd nbd nfs null pmemblk posixaio psync pvsync pvsync2 rados rbd sg solarisaio splice sync vsync \
         windowsaio xnvme";

/// All of them.
pub const UNUSED: &[UnusedSpec] = &[
    rejected(ENGINES, DATA_ENGINES, "ioengine"),
    ignored(
        ENGINE,
        "direct buffered thread threads iodepth_batch iodepth_batch_submit iodepth_batch_complete \
         iodepth_batch_complete_min iodepth_batch_complete_max io_submit_mode serialize_overlap mem iomem \
         iomem_align mem_align hugepage-size lockmem hipri hipri_percentage fixedbufs registerfiles \
         sqthread_poll sqthread_poll_cpu nonvectored uncached nowait force_async userspace_reap \
         libaio_vectored no_completion_thread thp busy_poll cmd_type cdb_len stream_id deac readfua \
         writefua md_per_io_size pi_act pi_chk apptag apptag_mask libblkio_driver \
         libblkio_force_enable_completion_eventfd libblkio_num_entries libblkio_path \
         libblkio_pre_connect_props libblkio_pre_start_props libblkio_queue_size libblkio_vectored \
         libblkio_wait_mode libblkio_write_zeroes_on_trim xnvme_async xnvme_be xnvme_admin xnvme_dev_nsid \
         xnvme_dev_subnqn xnvme_iovec xnvme_mem xnvme_sync cuda_io rocm_io gpu_dev_id gpu_dev_ids skip_bad \
         touch_objects",
    ),
    ignored(
        "data is in the store",
        "directory hostname port http_host http_mode http_object_mode http_pass http_s3_key http_s3_keyid \
         http_s3_region http_s3_security_token http_s3_sse_customer_algorithm http_s3_sse_customer_key \
         http_s3_storage_class http_swift_auth_token http_user http_verbose https nfs_url uri initiator \
         volume brick single-instance single_instance namenode hdfsdirectory hdfs_use_direct chunk_size \
         chunck_size pool cont svcl object_class clientname clustername conf rbdname rbd_encryption_format \
         rbd_encryption_passphrase dataplacement data_placement plid_select fdp_pli_select plids fdp_pli \
         fdp dp_scheme write_hint replay_redirect",
    ),
    ignored(
        "each copy of a job has a file of its own in the store",
        "filename filename_format unique_filename lockfile file_service_type openfiles",
    ),
    ignored(
        "every write is atomic, and durable when it is acknowledged",
        "fsync fdatasync sync sync_file_range write_barrier end_fsync end_syncfs fsync_on_close \
         create_fsync atomic",
    ),
    ignored(
        "the store lays out its files and has no page cache",
        "fallocate invalidate fadvise_hint create_serialize create_on_open allow_file_create \
         allow_mounted_write unlink softrandommap",
    ),
    ignored(
        "jobs run in this process as it was started",
        "cpumask cpus_allowed cpus_allowed_policy numa_cpu_nodes numa_mem_policy nice prio prioclass \
         priohint cmdprio cmdprio_bssplit cmdprio_class cmdprio_hint cmdprio_percentage cgroup \
         cgroup_nodelete cgroup_weight uid gid ioscheduler comm clocksource gtod_reduce gtod_cpu \
         job_start_clock_id",
    ),
    ignored(
        "the store neither compresses nor deduplicates, so the bytes that are written make no difference",
        "zero_buffers refill_buffers scramble_buffers buffer_pattern buffer_compress_percentage \
         buffer_compress_chunk dedupe_percentage dedupe_global dedupe_mode dedupe_working_set_percentage",
    ),
    ignored("random numbers come from one generator", "random_generator"),
    ignored(
        "reports have a layout of their own, and there are no logs",
        "description per_job_logs write_bw_log write_lat_log write_iops_log write_hist_log write_iolog \
         log_entries log_avg_msec log_hist_msec log_hist_coarseness log_window_value log_max_value \
         log_offset log_prio log_issue_time log_compression log_compression_cpus log_store_compressed \
         log_unix_epoch log_alternate_epoch log_alternate_epoch_clock_id block_error_percentiles bwavgtime \
         iopsavgtime clat_percentiles lat_percentiles slat_percentiles significant_figures disk_util \
         disable_lat disable_clat disable_slat disable_bw_measurement disable_bw unit_base",
    ),
    ignored(
        "stamps of our own are verified",
        "verify_offset verify_interval verify_pattern verify_pattern_interval verify_fatal verify_dump \
         verify_async verify_async_cpus verifysort verifysort_nr verify_policy experimental_verify \
         verify_state_save verify_state_load verify_write_sequence verify_header_seed",
    ),
    ignored("the first error ends the run", "continue_on_error ignore_error error_dump exitall_on_error"),
    rejected("a job has one file", "1", "nrfiles nr_files"),
    rejected("files are not found in directories", "", "opendir"),
    rejected("files have a fixed size", OFF, "file_append fill_device fill_fs"),
    rejected("a job does not only make files", OFF, "create_only"),
    rejected("a file is not made anew", OFF, "unlink_each_loop"),
    rejected("files are not read before a job begins", OFF, "pre_read"),
    rejected(
        "there are no zones",
        "none 0",
        "zonemode zonesize zonecapacity zonerange zoneskip zone_reset_threshold zone_reset_frequency",
    ),
    ignored(
        "there are no zones",
        "read_beyond_wp max_open_zones job_max_open_zones ignore_zone_limits recover_zbd_write_error \
         write_zone_remainder",
    ),
    rejected("a queue is filled again as soon as an operation ends", "0", "iodepth_low"),
    rejected("a trim has one range", "0 1", "num_range"),
    rejected(
        "only plain reads and writes are measured",
        "write read",
        "write_mode read_mode verify_mode sg_write_mode verify_bytchk stat_type",
    ),
    rejected("blocks lie at multiples of the smallest", OFF, "bs_unaligned blocksize_unaligned"),
    rejected("block sizes follow the direction", OFF, "bs_is_seq_rand"),
    rejected("regions are not written one by one", OFF, "sprandom spr_num_regions spr_op spr_cs"),
    rejected("jobs are not kept in proportion to each other", OFF, "flow flow_id flow_watermark flow_sleep"),
    rejected(
        "jobs end by size, count and time, not by what is measured",
        OFF,
        "steadystate ss steadystate_duration ss_dur steadystate_ramp_time ss_ramp \
         steadystate_check_interval ss_interval max_latency rate_min ratemin rate_iops_min",
    ),
    rejected("iodepth is fixed", OFF, "latency_target latency_window latency_percentile latency_run"),
    ignored("there is no minimum rate", "rate_cycle ratecycle"),
    rejected("a job begins to measure after a time", OFF, "ramp_size"),
    rejected("clients that hold the processor would hold the store", OFF, "thinktime_spin thinkcycles"),
    rejected("a job catches up after thinking", OFF, "rate_ignore_thinktime"),
    rejected("writes are verified at the end", OFF, "verify_backlog verify_backlog_batch"),
    rejected(
        "trims are not verified",
        OFF,
        "trim_percentage trim_verify_zero trim_backlog trim_backlog_batch",
    ),
    rejected(
        "logs of operations are not replayed",
        OFF,
        "read_iolog read_iolog_chunked replay_no_stall replay_scale replay_align replay_time_scale \
         replay_skip merge_blktrace_file merge_blktrace_scalars merge_blktrace_iters",
    ),
    rejected("commands are not run", "", "exec_prerun exec_postrun"),
    rejected("directions are reported one by one", "0 none", "unified_rw_reporting"),
    rejected("every job is reported", "1", "stats"),
    rejected("there are no profiles", "", "profile"),
    // Options of engines that are no engines of data.
    rejected(
        "it belongs to an engine that does something else than reading and writing data",
        "",
        "cpuload cpuchunks cpumode exit_on_io_done donorname inplace program arguments grace_time \
         std_redirect listen interface mss nodelay pingpong proto protocol ttl window_size bindname verb",
    ),
];

/// Why an option makes no difference (`Ok`), or why it cannot be accepted; none if fio has no such option.
pub(super) fn look(option: &str, value: &str) -> Option<Result<&'static str, &'static str>> {
    let spec = UNUSED.iter().find(|spec| spec.names().any(|name| name == option))?;
    let Values::Only(values) = spec.values else { return Some(Ok(spec.why)) };
    // `external:PATH` and the like.
    let value = value.split(':').next().unwrap_or_default();
    let is_default = values.split_ascii_whitespace().any(|one| one == value);
    Some(match option {
        "ioengine" if is_default => Ok(ENGINE),
        _ if is_default => Ok(IS_DEFAULT),
        _ => Err(spec.why),
    })
}

/// A remark on an option that works, though not quite as in fio.
pub(super) fn note(option: &str, value: &str) -> Option<&'static str> {
    match option {
        "verify" if !matches!(value, "crc32c" | "crc32c-intel" | "0" | "none" | "null") => {
            Some("stamps of our own, with a crc32c, are verified in place of this method")
        }
        _ => None,
    }
}

impl UnusedSpec {
    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.split_ascii_whitespace()
    }

    /// Why they have no effect, or are rejected.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::job::OPTIONS;

    #[test]
    fn a_name_is_in_one_list_once() {
        let mut seen = BTreeSet::new();
        let used = OPTIONS.iter().flat_map(|spec| std::iter::once(&spec.name).chain(spec.aliases));
        for name in used.copied().chain(UNUSED.iter().flat_map(UnusedSpec::names)) {
            assert!(seen.insert(name), "{name}");
        }
    }

    #[test]
    fn values_that_do_nothing_are_ignored() {
        assert_eq!(look("direct", "1"), Some(Ok(ENGINE)));
        assert_eq!(look("ioengine", "external:/some/engine.so"), Some(Ok(ENGINE)));
        assert_eq!(look("ioengine", "cpuio"), Some(Err(ENGINES)));
        assert_eq!(look("zonemode", "none"), Some(Ok(IS_DEFAULT)));
        assert!(look("zonemode", "zbd").is_some_and(|outcome| outcome.is_err()));
        assert!(look("flow", "8").is_some_and(|outcome| outcome.is_err()));
        assert!(look("bs_unaligned", "").is_some_and(|outcome| outcome.is_err()), "a flag that is set");
        assert_eq!(look("flow", "0"), Some(Ok(IS_DEFAULT)));
        assert_eq!(look("stats", "1"), Some(Ok(IS_DEFAULT)));
        assert!(look("stats", "0").is_some_and(|outcome| outcome.is_err()));
        assert!(look("cpuload", "0").is_some_and(|outcome| outcome.is_err()));
        assert_eq!(look("iodepht", "1"), None);
    }
}
