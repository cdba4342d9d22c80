# SPDX-License-Identifier: Apache-2.0
# Runs bench_tables (PROGRAM) on the records of two questions in FOLDER: the tables between the page's markers, the
# drawing, and one list of all records with what every one has.
cmake_minimum_required(VERSION 3.25)

function(write_question question records)
  file(WRITE ${FOLDER}/${question}.json "{\"question\": \"${question}\", \"notes\": [\"a note of ${question}\"],
    \"machine\": {\"cpu\": \"a processor\", \"compiler\": \"g++\", \"isa\": \"avx2\", \"last_level_cache\": 1048576,
                  \"bandwidth\": [0, 10.0, 20.0], \"integer_peak\": [0, 100.0, 200.0], \"float_peak\": [0, 50.0, 99.0]},
    \"records\": [${records}]}")
endfunction()
function(write_record out question recipe us rest)
  set(${out} "{\"question\": \"${question}\", \"recipe\": \"${recipe}\", \"part\": \"\", \"kv_heads\": 8, \"group\": 4,
    \"head_dim\": 128, \"rows\": 4096, \"threads\": 1, \"us\": ${us}, \"us_low\": ${us}, \"us_high\": ${us}, \"samples\": 9,
    \"preempted\": 1, \"bytes\": 8000000, ${rest} \"also\": {\"ns_per_row_head\": 1.25, \"bandwidth\": 10.0,
    \"peak\": 100.0}}" PARENT_SCOPE)
endfunction()
file(REMOVE_RECURSE ${FOLDER})
write_record(dense attend "dense f16" 1200.0 "\"vs_dense_f16\": 1.0, \"gb_per_s\": 8.0, \"of_bandwidth\": 0.8, \"of_peak\": 0.2,")
write_record(packed attend "int4<>" 400.0 "\"vs_dense_f16\": 3.0, \"vs_reference\": 7.5, \"vs_ggml\": 31.5, \"error\": 0.125,
             \"kernel_error\": null, \"gb_per_s\": 6.0, \"of_bandwidth\": 0.6, \"of_peak\": 0.25,")
write_record(appended append "int4<>" 5.5 "")
write_question(attend "${dense}, ${packed}")
write_question(append "${appended}")
set(page "before\n")
foreach(name machine goals attend append trim)
  string(APPEND page "<!-- ${name}:begin -->\nold ${name}\n<!-- ${name}:end -->\nbehind ${name}\n")
endforeach()
file(WRITE ${FOLDER}/page.md "${page}")
execute_process(COMMAND ${PROGRAM} ${FOLDER} ${FOLDER}/page.md ${FOLDER}/roofline.svg COMMAND_ERROR_IS_FATAL ANY)

file(READ ${FOLDER}/page.md page)
foreach(text "^before\n" "a processor" "`int4<>` [|] 400.0 us" " 3.00x [|] 7.5x [|] 31.5x [|]" "1.2e-01" " 60 % "
        "32 query heads, 8 KV heads of 128, 4096 rows, 1 thread" "dense f16: [*][*]3.00x" "- a note of append"
        "4 bits against dense f16, 8 KV heads [|] 2.50x [|] 1 [|] 1 [|] 3.00x [|] 3.00x [|]"
        "`int4<>` [|] 5.50 us" "behind append\n" "old trim\n")  # of a question that did not run
  if(NOT page MATCHES "${text}")
    message(SEND_ERROR "The page has no \"${text}\":\n${page}")
  endif()
endforeach()
if(page MATCHES "old (machine|attend|append)")
  message(SEND_ERROR "The page keeps old tables:\n${page}")
endif()

file(READ ${FOLDER}/roofline.svg svg)
if(NOT svg MATCHES "<svg.*int4<>|<svg.*int4&lt;&gt;")
  message(SEND_ERROR "No drawing of int4<>: ${svg}")
endif()

file(READ ${FOLDER}/results.json results)
string(JSON count LENGTH "${results}")
if(NOT count EQUAL 3)
  message(SEND_ERROR "results.json has ${count} records instead of 3")
endif()
foreach(field question recipe kv_heads group head_dim rows threads us bytes error gb_per_s of_bandwidth vs_dense_f16
        vs_reference)
  foreach(i RANGE 2)
    string(JSON value ERROR_VARIABLE missing GET "${results}" ${i} ${field})
    if(missing)
      message(SEND_ERROR "Record ${i} of results.json: ${missing}")
    endif()
  endforeach()
endforeach()
string(JSON ratio GET "${results}" 1 vs_ggml)
string(JSON question GET "${results}" 2 question)
string(JSON peer ERROR_VARIABLE missing GET "${results}" 0 vs_ggml)
if(NOT ratio EQUAL 31.5 OR NOT question STREQUAL append OR NOT missing)
  message(SEND_ERROR "results.json: vs_ggml ${ratio}, question ${question}, vs_ggml of what has no peer: ${peer}")
endif()

file(WRITE ${FOLDER}/page.md "no markers\n")
execute_process(COMMAND ${PROGRAM} ${FOLDER} ${FOLDER}/page.md ${FOLDER}/roofline.svg
                RESULT_VARIABLE failed ERROR_VARIABLE said)
file(READ ${FOLDER}/page.md page)
if(NOT failed OR NOT said MATCHES "the page has no <!-- machine:begin -->" OR NOT page STREQUAL "no markers\n")
  message(SEND_ERROR "A page without markers: ${failed}, ${said}, ${page}")
endif()
