"""Frequent pieces of English instructions, sums and code: what the tokens of ``builtin:tiny`` can be beyond one byte.

In the writing of byte-level tokenizers: Ġ is a space, Ċ a line break. In the order in which they are merged.
"""

_TEXT = r"""
Ġt Ġa in he re on Ġs er Ġthe ĠĠ Ġc at es or nd en Ġf ou Ġp Ġw ing it Ġo is Ġm al an Ġb Ġand Ġto ar le Ġin Ġof Ġd ic
ed ion Ġh ro as Ġe Ġre ct ent Ġn st Ġth il ve Ġl om et Ġg ĠĠĠĠ Ġy ow Ġ= Ġis ch Ġfor im am ce Ġst us ol Ġyou ĠT ay
ĠĠĠ id um el ut ers ur ot ig ation Ġbe ĠI Ġthat ul ra Ġon if ir ly ĠS ith Ġhe ĠA un Ġor ate Ġpro ## ak Ġwith Ġas od
ge ad ĠC Ġcon ĊĠĠĠ ri Ġare Ġit ver ** qu Ġan Ġcan pe se th Ġ$ ist 's ĠH Ġ( nt Ġex our ess ore Ġv iv ab Ġcom her ill
pp ck est ment ld ht ĠThe Ġal Ġus ain ĠP res em Ġ" Ġne Ġint Ġwh ere ĠM op Ġha Ġch Ġyour Ġle out ies Ġsu ĊĊ The Ġ-
ĊĠĠĠĠ ive ction Ġse ity pt ant umb ial Ġde ach Ġr ort int ĠB ud pl rom ight Ġk Ġwor Ġhave all ĠW ure age Ġsh ame Ġwe
ĠF oc and Ġby ĠE Ġhas og art os ĠD Ġ{ per ome Ġman ine Ġar ind Ġco ake ult ide ould iz Ġnumb Ġat Ġpl ie urn act Ġ+
Ġfrom ple ter ile Ġen ag ect ĠR are ok ust Ġim Ġme ount ice Ġret Ġad ĠL ĠJ ring av ime ĊĠĠĠĠĠĠĠ Ġwill cl up ence ue
Ġte Ġreturn rit Ġj ell tal ack Ġnumber able ound ces Ġ** Ġper ĠG Ġmore his Ġtotal Ġnot Ġ< ik ard Ġcont for ast ions
); #### ib Ġ| Ġres cc Ġmany ical ars ff Ġif du ip put Ġdo Ġeach ĠN ance oug ther Ġtheir ry ire Ġthis `` ich con Ġfe
Ġsc Ġab Ġcl Ġso Ġall vel ans ations ents ĠO Ġ' Ġqu ub ks ep end Ġshe les Ġspe ey ong ĠHow Ġwas ass Ġneed Ġun ign ous
ĠThis ood form Ġday xt ary Ġhow ated Ġro Ġthey Ġapp ost so unction Ġcre Ġmin lic ang Ġdis Ġimp ase Ġwhich Ġsp Ġhel
ater clud ds Ġhis ike Ġtime Ġ* **: ap -- oll ace Ġbo Ġpe ac Ġhelp Ġtw ress Ġwhe Ġtra ft Ġsome Ġpr ory ĠU ru arn Ġ}
now Ġye ick Ġher Ġout In ĠIf ail hes Ġnew irst Ġother ific ode Ġam ark Ġhour ons ef Ġwould Ġbu Ġx fere ors Ġup Ġthem
Ġbut Ġcomm ript Ġfind ĠSt Ġev ual Ġthan Ġone Ġcomp ĠIn Ġem Ġmy ough ition Ġlike Ġgiv ates ll hat und gr akes Ġminut
Ġadd Ġthere ject ree Ġsuch ish Ġfunction Ġcost Ġtr row ĊĠ Ġprov Ġdif Ġbl Ġmake Ġcons get Ġlo rite led ens Ġabout ob
one Ġcol () wor Ġsy Ġalso Ġinto eng ĠĠĠĠĠĠĠ ild Ġmon Ġover ari ĠY Ġrec Ġusing Ġdes Ġminutes Ġmay erv Ġ[ Ġfl ating
Ġits Ġpre Ġbec ĠK ets cess Ġwork very Ġgiven aus ata ia ray we old Ġany Ġcal ments Ġi Ġinclud Ġuse Ġfirst ings ĠIt
stem ath Ġtwo Ġrem ience Ġ/ Ġknow igh vers ople Ġchar ize ``` ph ose Ġgo eg Ġind Ġexper Ġdiffere velop Ġbet ful ely
erson Ġ` ert ities ): Ġinc Ġval aking oy Ġpeople ange Ġhours cript ov Ġmu Ġcode ract Ġoff ased Ġpart Ġlist Ġhad yth
ample Ġwho Ġacc Ġra __ Ġspec ics ek enc ower ite Ġmod ble Ġfact Ġgen ally ĊĠĠ ular its Ġdoes day ren imes ax olog
ages Ġused ys oth ython ink Ġwater Ġplay Ġstud Ġmuch Ġsum te gram ĠV Ġget Ġthen Ġrel under Ġyears fore Ġsm uring ts
ient ues fter Ġph ms ove Ġ<< ne Ġstring Ġpo ures gg ollow ause ava ative Ġwere Ġmain Ġmet Ġlearn Ġele iles Ġpos Ġinv
Ġgr rib chn St Ġstr als pr Ġprodu Ġthr cul ility ĠHe Ġour ise Ġsa Ġeff wn Ġway Ġty Ġunder Ġfollow Ġgre riend Ġread
ublic ĊĠĠĠĠĠĠĠĠĠĠĠ Ġcount Ġche elf ", Ġrequ Ġdifferent Ġthese Ġbeen Ġlong ps ential els own bs ĠCh Ġclass Ġsk Ġbook
ĠPython Ġdevelop ural Ġexpl Ġtake Ġwhen ock ength ade Ġshould ber Ġthrough ĠJava ict Ġvari red There ought Ġresult
Ġdata ants :: Ġsystem ible So Ġprogram 't ten Ġevery ĠĠĠĠĠĠĠĠ Ġwhile ns read iew :** Ġsecon pect Ġperson com Ġtimes
Ġpa Ġsal Ġprocess ween Ġworld arch Ġcould dd ctions Ġbetween Write ord Ġinput iqu ex Ġact Ġlif Ġtakes orial Ġsign
Ġtechn Ġinter Ġleft ines Ġsim Ġass ious ats stand angu ). ather Ġlet way Ġwhat Ġweek Ġfriend pport ution Ġdec Ġreg
anc Ġback Ġstd Ġinform ream ices Ġhigh mer ning Ġmed Ġdid ames cho Ġtrans erm Ġstart
"""

PIECES = tuple(_TEXT.split())
"""764 pieces, all different."""
